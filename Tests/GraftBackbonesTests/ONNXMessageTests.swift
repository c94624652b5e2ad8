import Foundation
import GraftBackbones
import GraftGraph
import Testing

/// Models written field by field, for what no library would write.
@Suite struct ONNXMessageTests {
  /// Builds protocol buffer messages.
  struct Message {
    var bytes: [UInt8] = []

    static func varint(_ value: UInt64) -> [UInt8] {
      var (rest, bytes) = (value, [UInt8]())
      while rest >= 0x80 {
        bytes.append(UInt8(rest & 0x7F | 0x80))
        rest >>= 7
      }
      return bytes + [UInt8(rest)]
    }

    func integer(_ field: UInt64, _ value: Int) -> Message {
      Message(bytes: bytes + Self.varint(field << 3) + Self.varint(UInt64(bitPattern: Int64(value))))
    }
    func data(_ field: UInt64, _ data: [UInt8]) -> Message {
      Message(bytes: bytes + Self.varint(field << 3 | 2) + Self.varint(UInt64(data.count)) + data)
    }
    func text(_ field: UInt64, _ text: String) -> Message { data(field, Array(text.utf8)) }
    func message(_ field: UInt64, _ message: Message) -> Message { data(field, message.bytes) }
  }

  static func tensor(_ name: String, type: Int = 1, dims: [Int], raw: [UInt8]) -> Message {
    dims.reduce(Message()) { $0.integer(1, $1) }.integer(2, type).text(8, name).data(9, raw)
  }
  static func node(_ type: String, _ inputs: [String], _ outputs: [String]) -> Message {
    outputs.reduce(inputs.reduce(Message()) { $0.text(1, $1) }) { $0.text(2, $1) }.text(4, type)
  }
  static func model(_ graph: Message, opset: Int? = 13) -> [UInt8] {
    let model = Message().integer(1, 8).message(7, graph)
    return opset.map { model.message(8, Message().integer(2, $0)) }?.bytes ?? model.bytes
  }
  static let relu = Message().message(1, node("Relu", ["x"], ["y"])).message(11, Message().text(1, "x")).message(12, Message().text(1, "y"))

  private func error(_ bytes: [UInt8]) throws -> String {
    let folder = TemporaryFolder()
    let path = try folder.file("model.onnx", bytes)
    return message { _ = try ONNXFile(path: path) }
  }

  @Test func theModelThatTheOthersDamageIsRead() throws {
    let folder = TemporaryFolder()
    let file = try ONNXFile(path: try folder.file("model.onnx", Self.model(Self.relu)))
    #expect(file.nodes.map(\.opType) == ["Relu"])
    #expect(file.inputs.map(\.name) == ["x"])
  }

  @Test(arguments: [[1 << 40, 1 << 40], [-1], [Int.max], [1 << 30], [3]])
  func shapesThatTheBytesDoNotFillAreRefused(dims: [Int]) throws {
    let error = try error(Self.model(Self.relu.message(5, Self.tensor("w", dims: dims, raw: [0, 0, 0, 0]))))
    #expect(error.contains("constant 'w'"), "\(error)")
  }

  @Test(arguments: [(8, "string"), (14, "complex64"), (17, "float8"), (22, "int4"), (99, "number 99")])
  func formatsThatAreNotReadAreNamed(type: Int, name: String) throws {
    let error = try error(Self.model(Self.relu.message(5, Self.tensor("w", type: type, dims: [0], raw: []))))
    #expect(error.contains("constant 'w': its elements are of format \(name), which is not read"), "\(error)")
  }

  @Test func aLaterRawValueReplacesAnEarlierOne() throws {
    // Protocol buffers let a writer repeat a field; the last one counts. The graph in two pieces is one graph.
    let tensor = Self.tensor("w", dims: [1], raw: [1, 2, 3]).data(9, [0, 0, 0x80, 0x3F])
    let folder = TemporaryFolder()
    let bytes =
      Self.model(Self.relu.message(5, tensor)) + Message().message(7, Message().message(5, Self.tensor("v", dims: [], raw: [0, 0, 0, 0x40]))).bytes
    let file = try ONNXFile(path: try folder.file("model.onnx", bytes))
    #expect(file.initializers["w"]?.floats() == [1])
    #expect(file.initializers["v"]?.floats() == [2])
    #expect(file.initializerNames == ["w", "v"])
  }

  @Test func namesMustBeDefinedOnceAndBeforeUse() throws {
    let undefined = Self.relu.message(1, Self.node("Add", ["y", "ghost"], ["z"]))
    #expect(try error(Self.model(undefined)).contains("node (Add) that computes 'z': it reads 'ghost', which nothing computes"))
    let late = Message().message(1, Self.node("Relu", ["b"], ["c"])).message(1, Self.node("Relu", ["c"], ["b"])).message(11, Message().text(1, "x"))
    #expect(try error(Self.model(late)).contains("which is computed only after it"))
    let twice = Self.relu.message(1, Self.node("Relu", ["x"], ["y"]))
    #expect(try error(Self.model(twice)).contains("it computes 'y', which is defined already"))
    let output = Self.relu.message(12, Message().text(1, "nowhere"))
    #expect(try error(Self.model(output)).contains("nothing computes its output 'nowhere'"))
    let constants = Self.relu.message(5, Self.tensor("w", dims: [0], raw: [])).message(5, Self.tensor("w", dims: [0], raw: []))
    #expect(try error(Self.model(constants)).contains("the constant 'w' is there twice"))
  }

  /// Nodes in any order are put into one in which they can run; those that are in one stay as they are.
  @Test func nodesAreSorted() throws {
    func order(_ nodes: [(inputs: [String], output: String)]) throws -> [String] {
      let graph = nodes.reduce(Message()) { $0.message(1, Self.node("Sum", $1.inputs, [$1.output])) }.message(11, Message().text(1, "x"))
      let folder = TemporaryFolder()
      return try ONNXFile(path: try folder.file("model.onnx", Self.model(graph))).nodes.map { $0.outputs[0] }
    }
    #expect(try order([(["x"], "a"), (["x"], "c"), (["a", "c"], "b")]) == ["a", "c", "b"])
    #expect(try order([(["c", "b"], "d"), (["x"], "e"), (["a"], "b"), (["a", "e"], "c"), (["x"], "a")]) == ["a", "e", "c", "b", "d"])
    let long = (0..<20_000).map { ([$0 == 19_999 ? "x" : "v\($0 + 1)"], "v\($0)") }
    #expect(try order(long).last == "v0")
  }

  /// Halves and doubles are computed with like other numbers; integers are none of an image.
  @Test(arguments: [(10, true), (11, true), (1, true), (7, false), (2, false)]) func inputsOfOtherFormats(_ type: Int, _ isRead: Bool) throws {
    let dimension = Message().message(1, Message().integer(1, 4))
    let input = Message().text(1, "x").message(2, Message().message(1, Message().integer(1, type).message(2, dimension)))
    let graph = Message().message(1, Self.node("Relu", ["x"], ["y"])).message(11, input).message(12, Message().text(1, "y"))
    let folder = TemporaryFolder()
    let backbone = try Backbone(path: try folder.file("model.onnx", Self.model(graph)))
    #expect(isRead == ((try? backbone.graph(inputShape: [4])) != nil))
  }

  @Test func whatIsNotReadIsRefusedByName() throws {
    #expect(try error(Self.model(Self.relu.message(15, Message()))).contains("sparse tensors"))
    #expect(try error(Self.model(Self.relu, opset: nil)).contains("does not say which operator versions"))
    let attribute = Message().text(1, "alpha").integer(20, 1)
    let node = Self.node("LeakyRelu", ["y"], ["z"]).message(5, attribute).message(5, attribute)
    #expect(try error(Self.model(Self.relu.message(1, node))).contains("its attribute 'alpha' is there twice"))
  }

  @Test func namesInMessagesAreShortAndPrintable() throws {
    let name = "\u{1B}[31m" + String(repeating: "x", count: 100_000)
    let error = try error(Self.model(Self.relu.message(1, Self.node("Add", ["y", name], ["z"]))))
    #expect(error.count < 1000)
    #expect(!error.contains("\u{1B}"))
  }

  @Test func deeplyNestedMessagesAreHarmless() throws {
    // Subgraphs (field 6 of an attribute, 1 of a graph, 5 of a node): some are read, 20,000 deep are not.
    func nested(_ depth: Int) -> [UInt8] {
      var graph = Message().text(2, "innermost")
      for _ in 0..<depth where graph.bytes.count < 1_000_000 {
        graph = Message().message(1, Message().text(4, "If").message(5, Message().text(1, "then").message(6, graph).integer(20, 5)))
      }
      return Self.model(graph.message(12, Message().text(1, "x")).message(11, Message().text(1, "x")))
    }
    let folder = TemporaryFolder()
    let file = try ONNXFile(path: try folder.file("model.onnx", nested(20)))
    let inner = try #require(try file.nodes[0].graph("then"))
    #expect(inner.nodes.map(\.opType) == ["If"] && inner.initializers.isEmpty && inner.outputs.isEmpty)
    #expect(try error(nested(20_000)).contains("nested deeper than any model's"))
    // Groups, an old way of nesting, inside a node: a million opening tags, with and without their ends.
    let open = [UInt8](repeating: 0x33, count: 1_000_000)
    let close = [UInt8](repeating: 0x34, count: 1_000_000)
    for groups in [open, open + close] {
      let error = try error(Self.model(Self.relu.data(1, Self.node("Relu", ["y"], ["z"]).bytes + groups)))
      #expect(error.contains("nested deeper than any model's"), "\(error)")
    }
  }
}
