import Foundation
import GraftBackbones
import GraftDevice
import GraftGraph
import Testing

/// Operators in the forms that opsets 7 to 23 give them, against ONNX Runtime (Tools/reference/onnx_models.py).
@Suite struct ONNXImportTests {
  static let expected = Result { try SafetensorsFile(path: Fixture.path("operators/expected.safetensors")) }
  static let models: [String] = ((try? FileManager.default.contentsOfDirectory(atPath: Fixture.path("operators"))) ?? [])
    .filter { $0.hasSuffix(".onnx") && !$0.hasPrefix("refused-") }.map { String($0.dropLast(5)) }.sorted()
  static let device = Result { try CPUDevice(threadCount: 2) }

  @Test func everyModelIsThere() throws {
    #expect(Set(try Self.expected.get().names) == Set(Self.models.flatMap { ["\($0).input", "\($0).output"] }))
    #expect(Self.models.count > 200)
  }

  @Test(arguments: models, [true, false])
  func agreesWithONNXRuntime(_ name: String, _ optimizes: Bool) throws {
    let tensors = try Self.expected.get()
    let x = try #require(tensors["\(name).input"]), y = try #require(tensors["\(name).output"])
    let backbone = try Backbone(path: Fixture.path("operators/\(name).onnx"))
    let graph = try backbone.graph(inputShape: x.shape)
    // Normalisation is only ever run folded.
    guard optimizes || !graph.nodes.contains(where: { $0.operation is BatchNorm }) else { return }
    let plan = try Plan(graph, device: try Self.device.get(), options: optimizes ? PlanOptions() : .asWritten)
    try plan.write(x.floats(), to: plan.graph.inputs[0])
    try plan.run()
    let output = plan.graph.outputs[0]
    #expect(plan.graph.type(of: output).shape == y.shape)
    #expect(plan.graph[output].name == "y")
    let found = try plan.read(output), expected = y.floats()
    let size = expected.reduce(1) { max($0, abs($1)) }
    let error = zip(found, expected).reduce(Float(0)) { max($0, $1.0.isNaN ? .infinity : abs($1.0 - $1.1)) }
    #expect(found.count == expected.count && error <= 2e-6 * size, "largest error \(error), largest value \(size)")
  }

  /// Scores that are chosen beside minus infinity leave attention one operation.
  @Test(arguments: ["attention-where", "attention-where-not", "attention-hidden"]) func maskedAttentionIsOneOperation(_ name: String) throws {
    let shape = try #require(try Self.expected.get()["\(name).input"]).shape
    let nodes = try Backbone(path: Fixture.path("operators/\(name).onnx")).graph(inputShape: shape).optimized().nodes
    #expect(nodes.count { $0.operation is Attention } == 1 && !nodes.contains { $0.operation is Softmax })
  }

  /// A file whose reshapes are of one image computes for several what it does for each.
  @Test(arguments: ["one-image-pooled", "one-image-tokens", "one-image-windows"]) func aFileOfOneImageTakesSeveral(_ name: String) throws {
    let backbone = try Backbone(path: Fixture.path("operators/\(name).onnx"))
    var generator = SplitMix(8)
    let images = (0..<3 * 128).map { _ in generator.float() }
    func features(_ images: ArraySlice<Float>) throws -> [Float] {
      let plan = try Plan(backbone.graph(inputShape: [images.count / 128, 8, 4, 4]), device: try Self.device.get())
      try plan.write(Array(images), to: plan.graph.inputs[0])
      try plan.run()
      #expect(plan.graph.type(of: plan.graph.outputs[0]).shape.first == images.count / 128)
      return try plan.read(plan.graph.outputs[0])
    }
    let several = try features(images[...]), each = try (0..<3).flatMap { try features(images[$0 * 128..<($0 + 1) * 128]) }
    #expect(several.count == each.count && zip(several, each).allSatisfy { abs($0 - $1) < 1e-5 })
  }

  /// What follows a value that is named may be of operators that are not read; the graph then ends there.
  @Test func aNamedValueNeedsOnlyWhatComesBeforeIt() throws {
    let path = Fixture.path("operators/refused-behind.onnx"), backbone = try Backbone(path: path)
    let words = "\(path): node 'chooses' (ArgMax): the operator 'ArgMax' is not supported (1 of 4 nodes)"
    for name in [nil, "i", "nothing"] {
      #expect(message { _ = try backbone.graph(inputShape: [2, 3], with: name) }.hasPrefix(words), "\(name ?? "no value")")
    }
    let graph = try backbone.graph(inputShape: [2, 3], with: "r")
    #expect(graph.outputs.map { graph[$0].name } == ["r"] && graph.nodes.count == 1)
    #expect(graph.cuts().map(\.name) == ["r"])
    // Of a file that is read as a whole the outputs stay.
    let whole = try Backbone(path: Fixture.path("operators/shuffle.onnx")).graph(inputShape: [2, 6, 4, 5], with: "g")
    #expect(whole.outputs.map { whole[$0].name } == ["y"])
  }

  /// Nodes that change nothing are no values of their own, and are found by their names all the same.
  @Test func identitiesAreFoundByName() throws {
    let graph = try Backbone(path: Fixture.path("operators/names.onnx")).graph(inputShape: [2, 3])
    let relu = try #require(graph.value(named: "r"))
    for name in ["s", "t", "u"] { #expect(graph.value(named: name) == relu, "\(name)") }
    #expect(graph.value(named: "v") == nil && graph.cuts().map(\.name) == ["r", "y"])
  }

  /// What a graph is not read for, in words of the file: the node's name, and no other node's.
  @Test(arguments: [
    ("convtranspose", "node 'up' (ConvTranspose): the operator 'ConvTranspose' is not supported (1 of 2 nodes)"),
    ("resize", "node 'larger' (Resize): its coordinate_transformation_mode 'tf_crop_and_resize' is not supported"),
    ("domain", "node 'foreign' (com.example.Relu): the operator 'com.example.Relu' is not supported (1 of 2 nodes)"),
    ("shape", "node 'bad shape' (Conv): weights [2, 5, 1, 1] in 1 groups do not fit an input of 3 channels"),
    ("topk-smallest", "node 'smallest' (TopK): it selects the smallest"),
    ("if-data", "node 'chooses' (If): its condition depends on the data, and has to be a constant of the model"),
    ("isnan-row", "node 'replaces' (Where): it chooses by what is no number, and that is only read after a softmax of which no row is masked"),
    ("isnan-data", "node 'replaces' (Where): it chooses by what is no number, and that is only read after a softmax of which no row is masked"),
    ("attention-nothing", "node 'attends' (Attention): its mask leaves nothing of a row, or is no number"),
    ("attention-softcap", "node 'attends' (Attention): its softcap is not supported"),
    ("col2im-blocks", "node 'folds' (Col2Im): its input [2, 12, 6] is not the columns of an image [4, 9]"),
    ("cast-float8", "node 'shortens' (Cast): it makes tensors of format float8, which is not supported"),
    ("dropout-training", "node 'drops' (Dropout): it drops values at random, as in training"),
    ("batchnorm-training", "node 'trained' (BatchNormalization): it normalises with the statistics of a batch"),
    ("data-dependent", "node 'turns data' (Cast): it turns values that depend on the data into integers"),
  ])
  func refusals(_ name: String, _ words: String) throws {
    let path = Fixture.path("operators/refused-\(name).onnx")
    let backbone = try Backbone(path: path)
    let shape = try #require(backbone.inputs.first).shape.compactMap { $0 }
    let error = message { _ = try backbone.graph(inputShape: shape) }
    #expect(error.hasPrefix("\(path): \(words)"), "\(error)")
  }

  @Test func severalOperatorsAreNamedTogether() throws {
    // The field op_type: its key and length, and the text.
    let folder = TemporaryFolder(), known = [0x22, 4] + Array("Conv".utf8)
    var bytes = try Fixture.bytes("operators/refused-convtranspose.onnx")
    let place = try #require(bytes.indices.first { bytes[$0...].starts(with: known) })
    bytes.replaceSubrange(place..<place + known.count, with: [0x22, 4] + Array("Cone".utf8))
    let path = try folder.file("two.onnx", bytes)
    let error = message { _ = try Backbone(path: path).graph(inputShape: [1, 3, 8, 8]) }
    #expect(error.contains("the operators 'Cone', 'ConvTranspose' are not supported (2 of 2 nodes)"), "\(error)")
  }

  @Test func aShapeOfAnotherRankIsRefused() throws {
    let path = Fixture.path("operators/conv-7.onnx")
    let error = message { _ = try Backbone(path: path).graph(inputShape: [2, 3, 7]) }
    #expect(error.contains(path) && error.contains("[2, 3, 7]"))
    for shape in [[2, 3, Int.max, Int.max], [-1, 3, 7, 6], [0, 3, 1 << 62, 1 << 62]] {
      #expect(message { _ = try Backbone(path: path).graph(inputShape: shape) }.contains(path))
    }
  }
}
