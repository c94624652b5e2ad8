import Foundation
import GraftData
import GraftGraph
import GraftTraining
import Testing

/// What training sees of a store with several views, and of pictures in IDX files.
@Suite struct ViewInputTests {
  /// A row is the picture's first pixel.
  private final class FirstPixel: FeatureComputing {
    let batchSize = 4
    let featureShape = [3]
    func features(ofBatch bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
      let size = bytes.count / count
      for image in 0..<count { for channel in 0..<3 { rows[image * 3 + channel] = Float(bytes[image * size + channel]) } }
    }
  }

  private let folder = FileManager.default.temporaryDirectory.appending(path: "graft-views-\(UUID().uuidString)")
  private let preprocessing: Preprocessing

  init() throws {
    preprocessing = try Preprocessing(inputSize: [3, 4, 4], interpolation: .nearest, cropPct: 1, mean: [0, 0, 0], std: [1, 1, 1])
  }

  private func store(views: Int, count: Int = 30) throws -> FeatureStore {
    var random = SplitMix(1)
    for number in 0..<count {
      let path = folder.appending(path: "data/train/\(["ant", "bee"][number % 2])/\(number).pgm")
      try FileManager.default.createDirectory(at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
      let pixels = (0..<64).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      try Data(Array("P5\n8 8\n255\n".utf8) + pixels).write(to: path)
    }
    var augmentation = Augmentation()
    augmentation.cropScale = 0.1...0.6
    let key = FeatureKey(
      backboneSHA256: String(repeating: "ab", count: 32), cut: "first", cutShape: [3], preprocessing: "none", precision: "float32", views: views,
      viewDrawing: StoredViews(augmentation: augmentation).canonicalJSON, featureType: .float32)
    let path = folder.appending(path: "store").path
    _ = try FeatureExtraction(data: ImageFolder(path: folder.appending(path: "data").path), store: path, key: key, preprocessing: preprocessing)
      .run(computing: { FirstPixel() })
    return try FeatureStore.open(reading: path)
  }

  private func rows(_ inputs: some TrainingSamples, epoch: Int?) throws -> [[Float]] {
    var values = [Float](repeating: 0, count: inputs.count * 3)
    try values.withUnsafeMutableBytes { try inputs.write(Array(0..<inputs.count), epoch: epoch, into: $0) }
    return (0..<inputs.count).map { Array(values[$0 * 3..<$0 * 3 + 3]) }
  }

  @Test func eachEpochDrawsOneViewASample() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let store = try store(views: 3), samples = store.samples(split: "train")
    var all = [Float](repeating: 0, count: 90 * 3)
    all.withUnsafeMutableBufferPointer { store.gather(store.allViews(of: samples), into: $0) }
    let inputs = try StoredInputs(store, samples: samples, seed: 5)
    func view(_ number: Int, _ sample: Int) -> [Float] { Array(all[(sample * 3 + number) * 3..<(sample * 3 + number + 1) * 3]) }

    #expect(try rows(inputs, epoch: nil) == samples.indices.map { view(0, $0) })
    var drawn = [0, 0, 0]
    for epoch in 1...20 {
      let own = try rows(inputs, epoch: epoch)
      #expect(try rows(inputs, epoch: epoch) == own)
      for sample in samples.indices {
        let places = (0..<3).filter { view($0, sample) == own[sample] }
        #expect(!places.isEmpty)
        if places.count == 1 { drawn[places[0]] += 1 }
      }
    }
    // 200 of 600 are expected of each, less the few views that look alike.
    #expect(drawn.allSatisfy { (130...260).contains($0) }, "\(drawn)")
    #expect(try rows(StoredInputs(store, samples: samples, seed: 6), epoch: 1) != rows(inputs, epoch: 1))

    let labelled = try store.labelled(split: "train", allViews: true)
    #expect(labelled.rowCount == 90 && labelled.labels == samples.flatMap { [$0.label, $0.label, $0.label] } && Set(labelled.keys).count == 30)
    #expect(try store.labelled(split: "train").rowCount == 30)
  }

  @Test func viewsOfOneSampleAreHeldOutTogetherAndSeenOnce() throws {
    let labels = (0..<60).map { $0 / 3 % 2 }, keys = (0..<60).map { "sample \($0 / 3)" }
    let features = try ArrayFeatures([Float](repeating: 0, count: 60), rowCount: 60, dimension: 1)
    for seed in 0..<20 as Range<UInt64> {
      let holdout = Holdout(try LabelledFeatures(features: features, labels: labels, keys: keys), classCount: 2, fraction: 0.2, seed: seed)
      let held = Set(holdout.validation.map { $0 / 3 })
      #expect(!held.isEmpty && holdout.validation.allSatisfy { $0 % 3 == 0 } && holdout.validation.count == held.count)
      #expect(holdout.training == (0..<60).filter { !held.contains($0 / 3) })
    }
    // A class of a single sample keeps it, with all its views.
    let single = try LabelledFeatures(features: features, labels: (0..<60).map { $0 < 3 ? 1 : 0 }, keys: keys)
    for seed in 0..<20 as Range<UInt64> {
      #expect(Holdout(single, classCount: 2, fraction: 0.5, seed: seed).training.starts(with: [0, 1, 2]))
    }
  }

  @Test func picturesOfIDXFilesAreInputs() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let pixels = (0..<48).map { UInt8($0 * 5) }
    try Data([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 4] + pixels).write(to: folder.appending(path: "train-images-idx3-ubyte"))
    try Data([0, 0, 8, 1, 0, 0, 0, 3, 1, 0, 1]).write(to: folder.appending(path: "train-labels-idx1-ubyte"))
    let images = try LabelledImages(ImageFolder(path: folder.path))
    let inputs = ImageInputs(
      paths: images.images.map(\.path), labels: images.images.map(\.label), packed: images.packed, preprocessing: preprocessing)
    var bytes = [UInt8](repeating: 0, count: 2 * 48)
    try bytes.withUnsafeMutableBytes { try inputs.write([2, 0], epoch: nil, into: $0) }
    #expect(bytes == (Array(pixels[32...]) + pixels[..<16]).flatMap { [$0, $0, $0] })
    #expect(inputs.labels == [1, 0, 1])
  }
}
