import Foundation
import Graft
import Testing

/// Damaged files through all that a command does with them: a valid result or an error that names the file, never a trap,
/// and no memory that a small file can't need.
@Suite struct MutatedFileTests {
  enum Kind: String, CaseIterable, Sendable {
    case onnx, zip, legacy, safetensors, npy, jpeg, png

    var fileName: String {
      switch self {
      case .onnx: "model.onnx"
      case .zip, .legacy: "model.pth"
      case .safetensors: "model.safetensors"
      case .npy: "damaged.npy"
      case .jpeg: "damaged.jpg"
      case .png: "damaged.png"
      }
    }
  }

  /// 2,002 in all.
  static let mutationCount = 286
  /// What each plan may take, so that a file that asks for much, and rightly gets it elsewhere, is refused here.
  static let memoryLimit = 256 << 20

  @Test(arguments: Kind.allCases) func anErrorOrAResult(_ kind: Kind) async throws {
    let folder = try TemporaryFolder()
    // A process of its own for each kind: a trap is seen, and the peak of memory is its own.
    await #expect(processExitsWith: .success) { [path = folder.path as String, kind = kind.rawValue as String] in
      try Self.run(try #require(Kind(rawValue: kind)), in: path)
    }
    let last = (try? String(contentsOfFile: folder["seed"], encoding: .utf8)) ?? "none"
    let report = try #require(try? String(contentsOfFile: folder["report"], encoding: .utf8), "it ended at seed \(last)")
    let numbers = report.split(separator: "\n")[0].split(separator: " ").compactMap { Int($0) }
    let (valid, refused, peakKibibytes) = (numbers[0], numbers[1], numbers[2])
    #expect(valid + refused == Self.mutationCount)
    // Mutations that change nothing, or everything, would test nothing.
    #expect(valid > Self.mutationCount / 100 && refused > Self.mutationCount / 10, "\(valid) valid, \(refused) refused")
    #expect(peakKibibytes > 0 && peakKibibytes < 1 << 20, "\(peakKibibytes) KiB")
    for problem in report.split(separator: "\n").dropFirst() { Issue.record("\(problem)") }
  }

  private static func run(_ kind: Kind, in path: String) throws {
    let (original, structure) = try sample(kind, in: path)
    let file = "\(path)/\(kind.fileName)"
    var (valid, refused, problems) = (0, 0, [String]())
    for seed in 0..<mutationCount {
      try "\(seed)".write(toFile: "\(path)/seed", atomically: false, encoding: .utf8)
      var bytes = Mutation.apply(to: original, structure: structure, seed: UInt64(seed))
      // Without checksums that fit, most damage to a PNG would not get past them.
      if kind == .png, seed % 4 != 0 { repairChecksums(&bytes) }
      try Data(bytes).write(to: URL(fileURLWithPath: file))
      do {
        switch kind {
        case .onnx, .zip, .legacy, .safetensors: try compute(file, seed: seed)
        case .npy: try importing(file, in: path, seed: seed)
        case .jpeg, .png: try picture(file)
        }
        valid += 1
      } catch {
        let isTyped =
          error is ImportError || error is FileError || error is PlanMemoryError || error is PreprocessingError || error is NpyError
          || error is StoreError || error is ImageError
        // A size that preprocessing refuses is named, and the file is the one that was given.
        if !isTyped || !(error is PreprocessingError || "\(error)".contains(kind.fileName)) {
          problems.append("seed \(seed): \(type(of: error)) \(error)".replacing("\n", with: " "))
        }
        refused += 1
      }
    }
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let peak = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }.map { $0.filter(\.isNumber) } ?? "0"
    try (["\(valid) \(refused) \(peak)"] + problems).joined(separator: "\n").write(toFile: "\(path)/report", atomically: true, encoding: .utf8)
  }

  private static func repairChecksums(_ bytes: inout [UInt8]) {
    var position = 8
    while position + 12 <= bytes.count {
      let length = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
      guard position + 12 + length <= bytes.count else { return }
      let checksum = PyTorchWriting.crc32(bytes[position + 4..<position + 8 + length])
      bytes.replaceSubrange(position + 8 + length..<position + 12 + length, with: withUnsafeBytes(of: checksum.bigEndian, Array.init))
      position += 12 + length
    }
  }

  /// An undamaged file, and where its structure is described.
  private static func sample(_ kind: Kind, in path: String) throws -> (bytes: [UInt8], structure: [Range<Int>]) {
    func fixture(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: Fixture.path(name)))) }
    let weights = EfficientNetLite(.lite0).layers(layout: .timm, classes: 2).flatMap(\.weights)
    let largest = weights.map { $0.shape.reduce(1, *) }.max() ?? 0
    // Each number 1/32 in float16.
    let storage = [UInt8]((0..<2 * largest).map { $0 % 2 == 0 ? 0 : 0x28 })
    switch kind {
    case .onnx: return (try fixture("tiny.onnx"), [])
    case .zip: return PyTorchWriting.zip(weights, storage: storage)
    case .legacy: return PyTorchWriting.legacy(weights, storage: storage)
    case .safetensors:
      let shared = HostBytes(copying: storage), file = "\(path)/\(kind.fileName)"
      try SafetensorsFile.write(
        tensors: weights.map { ($0.name, try HostTensor(shape: $0.shape, elementType: .float16, storage: shared)) }, to: file)
      let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: file)))
      return (bytes, [0..<8 + bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }])
    case .npy:
      try Npy.write(HostTensor([6, 4], (0..<24).map { Float($0) / 4 }), to: "\(path)/features.npy")
      try Npy.write(HostTensor([6], integers: [3, 1, 2, 3, 1, 2]), to: "\(path)/labels.npy")
      return (Array(try Data(contentsOf: URL(fileURLWithPath: "\(path)/features.npy"))), [0..<128])
    case .jpeg: return (try fixture("420.jpg"), [])
    case .png: return (try fixture("rgb.png"), [])
    }
  }

  /// What `extract` does with a backbone, or, every other time, what `run` does.
  private static func compute(_ file: String, seed: Int) throws {
    let device = try CPUDevice(threadCount: 2)
    let backbone = try Backbone(path: file)
    // Not the whole of a large network each time.
    let cut = backbone.trainedPreprocessing == nil || seed % 16 == 0 ? nil : "blocks.1.project"
    let declared = backbone.trainedPreprocessing == nil ? backbone.inputs.first?.shape ?? [] : []
    let height = declared.count == 4 ? declared[2] ?? 32 : 32, width = declared.count == 4 ? declared[3] ?? 32 : 32
    let preprocessing = try Preprocessing(
      inputSize: [3, height, width], interpolation: .bilinear, cropPct: 1, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5])
    if seed % 2 == 0 {
      _ = try FrozenBackbone.describe(backbone, cut: cut, preprocessing: preprocessing)
      let frozen = try FrozenBackbone(
        backbone, cut: cut, preprocessing: preprocessing, batchSize: 2, device: device, options: PlanOptions(memoryLimit: memoryLimit))
      let images = [UInt8](repeating: 100, count: 2 * preprocessing.byteCount)
      var rows = [Float](repeating: 0, count: 2 * frozen.featureShape.reduce(1, *))
      try images.withUnsafeBytes { bytes in
        try rows.withUnsafeMutableBufferPointer { try frozen.features(ofBatch: bytes, count: 2, into: $0) }
      }
    } else {
      var graph = try backbone.graph(inputShape: [2, 3, height, width])
      if let cut, let value = graph.value(named: cut) { graph.outputs = [value] }
      let plan = try backbone.namingFile { try Plan(graph, device: device, options: PlanOptions(memoryLimit: memoryLimit)) }
      try plan.write([Float](repeating: 0.5, count: 6 * height * width), to: plan.graph.inputs[0])
      try plan.run()
      for output in plan.graph.outputs { _ = try plan.read(output) }
    }
  }

  /// A damaged file as features, as labels and as words of a split, each beside files that are whole.
  private static func importing(_ file: String, in path: String, seed: Int) throws {
    let store = "\(path)/store-\(seed)"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let whole = (features: "\(path)/features.npy", labels: "\(path)/labels.npy")
    // As labels numbers are what is to be told, if there are as many rows; as words they must be refused whatever else is wrong with them.
    let told = store + "-labels"
    defer { try? FileManager.default.removeItem(atPath: told) }
    do {
      let summary = try FeatureStore.importing(features: whole.features, labels: file, output: told)
      let opened = try FeatureStore.open(reading: told), targets = opened.targets(of: opened.samples())
      guard summary.labelling.task == .regression, targets.count == 6 * summary.classes, targets.allSatisfy(\.isFinite) else {
        throw StoreError(.values, path: file, reason: "targets are lost", remedy: "")
      }
    } catch is NpyError {}
    do {
      _ = try FeatureStore.importing(features: whole.features, labels: whole.labels, split: file, output: store)
      throw NpyError(path: file, reason: "features were taken for words")
    } catch let error as NpyError where !error.description.contains("were taken") {}
    let summary = try FeatureStore.importing(features: file, labels: whole.labels, output: store)
    let opened = try FeatureStore.open(reading: store)
    try opened.verify()
    guard opened.samples().count == 6, summary.classes == 3 else { throw StoreError(.values, path: store, reason: "rows are lost", remedy: "") }
  }

  private static func picture(_ file: String) throws {
    let preprocessing = try Preprocessing(
      inputSize: [3, 32, 48], interpolation: .bicubic, cropPct: 0.9, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5])
    var bytes = [UInt8](repeating: 0, count: preprocessing.byteCount)
    let image = try preprocessing.decoder().decode(path: file)
    bytes.withUnsafeMutableBufferPointer { preprocessing.apply(to: image, into: $0) }
  }
}
