import Foundation
import Graft
import Testing

/// The whole job through the library: photos, features, head, scores.
@Suite struct LibraryTests {
  private struct Job {
    let backbone: Backbone
    let preprocessing: Preprocessing
    let device: any Device
    let store: String
    let photos: String

    func extract(batchSize: Int = 8) throws -> ExtractionSummary {
      let frozen = try FrozenBackbone.describe(backbone, cut: nil, preprocessing: preprocessing)
      let key = FeatureKey(
        backboneSHA256: try backbone.hash(), cut: frozen.cut, cutShape: frozen.featureShape, preprocessing: preprocessing.canonicalJSON,
        precision: "float32", featureType: .float32)
      let run = try FeatureExtraction(
        data: try ImageFolder(path: photos), store: store, key: key, preprocessing: preprocessing, options: ExtractionOptions(backbone: backbone.path)
      )
      return try run.run(computing: {
        try FrozenBackbone(backbone, cut: nil, preprocessing: preprocessing, batchSize: batchSize, device: device)
      })
    }
  }

  private func job(_ folder: TemporaryFolder, device: any Device) throws -> Job {
    let model = Fixture.path("tiny.onnx")
    return Job(
      backbone: try Backbone(path: model), preprocessing: try Preprocessing.read(beside: model), device: device, store: folder["store"],
      photos: folder["photos"])
  }

  @Test func photosBecomeAHeadThatKnowsThem() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 30)
    let model = try Data(contentsOf: URL(fileURLWithPath: Fixture.path("tiny.onnx")))
    let job = try job(folder, device: Devices.choose("cpu"))
    let summary = try job.extract()
    #expect(summary.extracted == 90 && summary.reused == 0 && summary.skipped == 0)

    let store = try FeatureStore.open(reading: job.store)
    #expect(store.classNames == Photos.classes && store.key.cut == "features" && store.featureCount == 16)
    let train = try store.labelled(split: "train")
    let backend = DeviceLinearBackend(device: job.device)
    let result = try LinearHeadTrainer(backend: backend).train(LinearTrainingData(train: train, classes: store.classNames))
    // Colours that overlap in every pixel and not in the mean: the head separates them.
    let head = try Head(
      result,
      metadata: HeadMetadata(
        classes: store.classNames, cut: store.key.cut, backboneSHA256: store.key.backboneSHA256, backboneFile: nil, backbonePath: nil,
        preprocessing: store.key.preprocessing, featureNormalisation: result.featureNormalisation, l2: result.l2, metrics: [:],
        graftVersion: GraftVersion.text))
    try head.write(to: folder["head.safetensors"])
    let read = try Head(path: folder["head.safetensors"])
    for split in ["train", "test"] {
      let samples = store.samples(split: split)
      var scores = try EvaluationAccumulator(classes: store.classNames)
      try read.forEachLogits(of: StoreFeatures(store, samples: samples), file: "head", backend: backend) { first, logits in
        try scores.add(logits: logits, labels: samples[first..<first + logits.count / 3].map(\.label), firstRow: first)
      }
      let evaluation = try scores.finish()
      #expect(evaluation.top1 == 1, "\(split): \(evaluation.top1) on \(evaluation.samples)")
      #expect(evaluation.samples > 5)
    }
    // The backbone is frozen, on disk too.
    #expect(try Data(contentsOf: URL(fileURLWithPath: Fixture.path("tiny.onnx"))) == model)
    #expect(try job.backbone.hash() == store.key.backboneSHA256)

    // Nothing twice; new images cost only themselves.
    let again = try job.extract()
    #expect(again.extracted == 0 && again.reused == 90)
    try Photos.write(to: folder["photos"], count: 2, seed: 7)
    let grown = try job.extract(batchSize: 3)
    #expect(grown.extracted == 6 && grown.reused == 90)
  }

  /// Whether there is a device of that kind; what is not tested is noted.
  private func isPresent(_ device: String) -> Bool {
    if device != "opencl" || TuneCommandTests.hasOpenCL { return true }
    print("note: no OpenCL device, so nothing is tested on one: install pocl-opencl-icd")
    return false
  }

  /// A row depends on its own image alone: not on its place in the batch, nor on its neighbours.
  @Test(arguments: ["cpu", "opencl"], [KernelChoice.cpu, .gpu])
  func rowsAreTheSameBitsEverywhereInABatch(_ device: String, _ kernels: KernelChoice) throws {
    guard device == "opencl" || kernels == .cpu else { return }
    guard isPresent(device) else { return }
    let model = Fixture.path("tiny.onnx")
    let preprocessing = try Preprocessing.read(beside: model), backbone = try Backbone(path: model)
    let frozen = try FrozenBackbone(
      backbone, cut: nil, preprocessing: preprocessing, batchSize: 5, device: Devices.choose(device, kernels: kernels))
    var generator = Generator(1)
    let images = (0..<7).map { _ in (0..<preprocessing.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) } }
    func features(_ order: [Int]) throws -> [[Float]] {
      var rows = [Float](repeating: 0, count: 16 * order.count)
      try order.flatMap { images[$0] }.withUnsafeBytes { bytes in
        try rows.withUnsafeMutableBufferPointer { try frozen.features(ofBatch: bytes, count: order.count, into: $0) }
      }
      return order.indices.map { Array(rows[$0 * 16..<($0 + 1) * 16]) }
    }
    let first = try features([0, 1, 2, 3, 4])
    #expect(Set(first).count == 5)
    #expect(try features([4, 5, 0, 6, 2])[0] == first[4])
    #expect(try features([5, 6, 6, 1])[3] == first[1])
    #expect(try features([2])[0] == first[2])
    // By the definitions, in double precision, from the pixels on.
    let graph = try backbone.graph(inputShape: [1, 3, 32, 32])
    let pixels = ReferenceTensor([1, 3, 32, 32]) { i in
      Double(images[2][(i[2] * 32 + i[3]) * 3 + i[1]]) * Double(preprocessing.scale[i[1]]) + Double(preprocessing.shift[i[1]])
    }
    var values: [ValueID: ReferenceTensor] = [graph.inputs[0]: pixels]
    for node in graph.nodes {
      values[node.output] = node.operation.reference(node.inputs.map { id in values[id] ?? ReferenceTensor(graph.constant(id)!) })
    }
    let expected = try #require(graph.value(named: "features").flatMap { values[$0] })
    for (found, wanted) in zip(first[2], expected.values) { #expect(abs(Double(found) - wanted) < 1e-5) }
  }

  /// A file that takes images channels last, as TensorFlow's exporter writes them, gives the features and the gradients of its twin.
  @Test(arguments: [("cpu", .cpu), ("opencl", .gpu)] as [(String, KernelChoice)])
  func channelsLast(_ device: String, _ kernels: KernelChoice) throws {
    guard isPresent(device) else { return }
    let preprocessing = try Preprocessing.read(beside: Fixture.path("tiny.onnx"))
    let backbones = try ["tiny.onnx", "tiny-channels-last.onnx"].map { try Backbone(path: Fixture.path($0)) }
    #expect(backbones.map(\.takesChannelsLast) == [false, true])
    #expect(try backbones[1].imageShape(batchSize: 2, height: 32, width: 24) == [2, 3, 32, 24])
    var generator = Generator(2)
    let image = (0..<preprocessing.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let computing = try Devices.choose(device, kernels: kernels)
    let rows = try backbones.map { backbone in
      let frozen = try FrozenBackbone(backbone, cut: "features", preprocessing: preprocessing, batchSize: 1, device: computing)
      var row = [Float](repeating: 0, count: 16)
      try image.withUnsafeBytes { bytes in try row.withUnsafeMutableBufferPointer { try frozen.features(ofBatch: bytes, count: 1, into: $0) } }
      return row
    }
    #expect(rows[0] == rows[1] && Set(rows[0]).count > 8)
    let trained = try backbones.map { try MovedCut($0, feature: "features", preprocessing: preprocessing, unfreezing: .all) }
    #expect(trained[0].parameterNames == trained[1].parameterNames && trained[0].shape == trained[1].shape)
  }

  /// Blue first is what red first makes of a picture with the two exchanged.
  @Test(arguments: [("cpu", .cpu), ("opencl", .gpu)] as [(String, KernelChoice)])
  func blueFirst(_ device: String, _ kernels: KernelChoice) throws {
    guard isPresent(device) else { return }
    let backbone = try Backbone(path: Fixture.path("tiny.onnx")), computing = try Devices.choose(device, kernels: kernels)
    var generator = Generator(3)
    let image = (0..<32 * 32 * 3).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let exchanged = image.indices.map { image[$0 / 3 * 3 + 2 - $0 % 3] }
    func row(_ image: [UInt8], _ order: Preprocessing.ChannelOrder, mean: [Double], std: [Double]) throws -> [Float] {
      let preprocessing = try Preprocessing(inputSize: [3, 32, 32], interpolation: .bilinear, cropPct: 1, mean: mean, std: std, channelOrder: order)
      let frozen = try FrozenBackbone(backbone, cut: nil, preprocessing: preprocessing, batchSize: 1, device: computing)
      var row = [Float](repeating: 0, count: 16)
      try image.withUnsafeBytes { bytes in try row.withUnsafeMutableBufferPointer { try frozen.features(ofBatch: bytes, count: 1, into: $0) } }
      return row
    }
    let (mean, std) = ([0.2, 0.4, 0.7], [0.1, 0.2, 0.3])
    let turned = try row(image, .bgr, mean: mean, std: std)
    let expected = try row(exchanged, .rgb, mean: mean.reversed(), std: std.reversed())
    for (found, wanted) in zip(turned, expected) { #expect(abs(found - wanted) <= 1e-5) }
    let other = try row(image, .rgb, mean: mean, std: std)
    #expect(zip(turned, other).contains { abs($0 - $1) > 1e-3 })
  }

  @Test func aCutThatIsNoneIsAnErrorThatNamesSome() throws {
    let model = Fixture.path("tiny.onnx")
    let preprocessing = try Preprocessing.read(beside: model), backbone = try Backbone(path: model)
    let error = #expect(throws: ImportError.self) { try FrozenBackbone.describe(backbone, cut: "middle", preprocessing: preprocessing) }
    #expect(error?.description.contains("'middle'") == true && error?.description.contains("'features'") == true)
    #expect(try FrozenBackbone.describe(backbone, cut: "r2", preprocessing: preprocessing).featureShape == [16, 8, 8])
  }
}
