/// The shape and number format of a value.
public struct TensorType: Sendable, Hashable, CustomStringConvertible {
  public var shape: [Int]
  public var elementType: ElementType

  public init(_ shape: [Int], _ elementType: ElementType = .float32) { (self.shape, self.elementType) = (shape, elementType) }

  public var rank: Int { shape.count }
  public var elementCount: Int { shape.reduce(1, *) }
  public var byteCount: Int { elementCount * elementType.byteCount }
  public var description: String { "\(elementType.rawValue)[\(shape.map(String.init).joined(separator: ", "))]" }
}

/// A value of a graph: an input, a constant, or what one node computes.
public struct ValueID: Sendable, Hashable {
  package let index: Int
  package init(_ index: Int) { self.index = index }
}

/// Operations on tensors in single assignment: every value is defined once, before it is used.
///
/// Images are channels last, `[N, H, W, C]`, inside a graph; what a model file says is turned into that when it is read.
/// All extents are known: a graph belongs to one batch size.
public struct Graph: Sendable {
  public enum Source: Sendable {
    case input
    case constant(HostTensor)
    /// A constant whose elements a plan no longer needs: the device has them in its own form.
    case releasedConstant
    case node(Int)
  }

  public struct Value: Sendable {
    public let type: TensorType
    /// The model file's name for it, where it has one.
    public var name: String
    /// Of a constant: whether it was computed, as masks and tables of positions are, and is nothing that training changes.
    public fileprivate(set) var isFixed = false
    public fileprivate(set) var source: Source
  }

  public struct Node: Sendable {
    public let operation: any Operation
    public let inputs: [ValueID]
    public let output: ValueID
    /// The model file's name for the node: errors and profiles show it.
    public let name: String
  }

  public private(set) var values: [Value] = []
  /// In an order in which they can run.
  public private(set) var nodes: [Node] = []
  public private(set) var inputs: [ValueID] = []
  /// Inputs that keep their values from run to run and that operations may overwrite: parameters, and what optimisers know of them.
  public private(set) var variables: Set<ValueID> = []
  /// Further names of values: of identities, which are no values of their own.
  private var otherNames: [String: ValueID] = [:]
  /// Variables that a node so far overwrites.
  private var overwritten: Set<ValueID> = []
  public var outputs: [ValueID] = []

  public init() {}

  public subscript(_ id: ValueID) -> Value { values[id.index] }
  public func type(of id: ValueID) -> TensorType { values[id.index].type }

  /// The constant behind a value, if it is one.
  public func constant(_ id: ValueID) -> HostTensor? {
    if case .constant(let tensor) = values[id.index].source { tensor } else { nil }
  }

  /// The node that computes a value, if one does.
  public func producer(of id: ValueID) -> Node? {
    if case .node(let index) = values[id.index].source { nodes[index] } else { nil }
  }

  /// The value of that name; the last one defined, should there be several.
  public func value(named name: String) -> ValueID? { values.lastIndex { $0.name == name }.map(ValueID.init) ?? otherNames[name] }

  public mutating func addInput(_ type: TensorType, name: String) -> ValueID {
    let id = define(type, name: name, source: .input)
    inputs.append(id)
    return id
  }

  /// An input that keeps its value from run to run and may be overwritten.
  public mutating func addVariable(_ type: TensorType, name: String) -> ValueID {
    let id = addInput(type, name: name)
    variables.insert(id)
    return id
  }

  /// - Parameter isFixed: whether training leaves it as it is, wherever it is used.
  public mutating func addConstant(_ tensor: HostTensor, name: String = "", isFixed: Bool = false) -> ValueID {
    let id = define(TensorType(tensor.shape, tensor.elementType), name: name, source: .constant(tensor))
    values[id.index].isFixed = isFixed
    return id
  }

  /// Adds a node and returns what it computes.
  ///
  /// - Throws: `ShapeError` that names the node if the operation can't take these inputs.
  public mutating func add(_ operation: some Operation, _ inputs: [ValueID], name: String = "") throws(ShapeError) -> ValueID {
    try add(any: operation, inputs, name: name)
  }

  package mutating func add(any operation: any Operation, _ inputs: [ValueID], name: String) throws(ShapeError) -> ValueID {
    let type: TensorType
    let types = inputs.map { self.type(of: $0) }
    do throws(ShapeError) {
      type = try operation.outputType(types)
      if type.shape.contains(where: { $0 < 0 }) || (try? TensorError.byteCount(shape: type.shape, elementType: type.elementType)) == nil {
        throw ShapeError(operation.kind, "its result would have shape \(type.shape)")
      }
    } catch {
      throw error.at(name)
    }
    if let place = operation.mutatedInputs.first(where: { !variables.contains(inputs[$0]) }) {
      throw ShapeError(operation.kind, "input \(place) is overwritten and has to be a variable", node: name)
    }
    if let input = inputs.first(where: overwritten.contains) {
      throw ShapeError(
        operation.kind, "'\(self[input].name)' has been overwritten by an earlier node, whose result is to be read instead", node: name)
    }
    overwritten.formUnion(operation.mutatedInputs.map { inputs[$0] })
    let output = define(type, name: name, source: .node(nodes.count))
    nodes.append(Node(operation: operation, inputs: inputs, output: output, name: name))
    return output
  }

  /// Lets go of a constant's elements.
  mutating func release(_ id: ValueID) {
    guard case .constant(let tensor) = values[id.index].source else { return }
    tensor.evict()
    values[id.index].source = .releasedConstant
  }

  /// Another name by which `value(named:)` finds a value of this graph; one that is rewritten no longer has it.
  package mutating func addName(_ name: String, of id: ValueID) { otherNames[name] = id }

  public mutating func rename(_ id: ValueID, _ name: String) { values[id.index].name = name }

  private mutating func define(_ type: TensorType, name: String, source: Source) -> ValueID {
    values.append(Value(type: type, name: name, source: source))
    return ValueID(values.count - 1)
  }

  /// How many nodes (and outputs) use each value, by its index.
  package func useCounts() -> [Int] {
    var counts = [Int](repeating: 0, count: values.count)
    for node in nodes { for input in node.inputs { counts[input.index] += 1 } }
    for output in outputs { counts[output.index] += 1 }
    return counts
  }
}
