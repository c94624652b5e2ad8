import GraftGraph

/// One operation of an ONNX graph, as the file states it.
public struct ONNXNode: Sendable {
  /// The file it is from, for messages.
  public let file: String
  /// The node's own name; often empty.
  public let name: String
  /// "Conv", "Relu".
  public let opType: String
  /// Empty for the standard operators ("ai.onnx" is read as empty).
  public let domain: String
  /// Names of the values read; an empty name is an optional input that is not given.
  public let inputs: [String]
  /// Names of the values written; an empty name is an optional output that nobody wants.
  public let outputs: [String]
  public let attributes: [String: ONNXAttribute]

  /// How messages refer to the node: by its name, or by its first output where it has none.
  public var label: String {
    let kind = domain.isEmpty ? opType : "\(domain).\(opType)"
    if !name.isEmpty { return "node \(quoted(name)) (\(kind))" }
    return "node (\(kind)) that computes \(quoted(outputs.first { !$0.isEmpty } ?? ""))"
  }

  /// An error at this node.
  public func error(_ what: String, remedy: String = "") -> ImportError {
    ImportError(file: file, node: label, what: what, remedy: remedy)
  }
}

extension ONNXNode {
  /// Nodes, each after those whose results it reads, and otherwise as they are: converters append what they put in front of others. Of
  /// nodes that wait for each other the order stays wrong.
  static func inOrder(_ nodes: [ONNXNode]) -> [ONNXNode] {
    var makers: [String: Int] = [:]
    for (index, node) in nodes.enumerated() { for name in node.outputs where !name.isEmpty { makers[name] = makers[name] ?? index } }
    let needed = nodes.map { node in node.namesRead.compactMap { makers[$0] } }
    guard zip(nodes.indices, needed).contains(where: { index, needed in needed.contains { $0 >= index } }) else { return nodes }
    var order: [Int] = [], isSeen = [Bool](repeating: false, count: nodes.count)
    for start in nodes.indices where !isSeen[start] {
      isSeen[start] = true
      // Nodes under way, and how many of those that each needs have been looked at.
      var path = [(node: start, looked: 0)]
      while let (node, looked) = path.last {
        guard looked < needed[node].count else {
          order.append(node)
          path.removeLast()
          continue
        }
        path[path.count - 1].looked += 1
        let next = needed[node][looked]
        guard !isSeen[next] else { continue }
        isSeen[next] = true
        path.append((next, 0))
      }
    }
    return order.map { nodes[$0] }
  }

  /// Names of the values that it reads, and those of the graph around it that graphs inside it do.
  var namesRead: [String] {
    attributes.values.reduce(inputs) { names, attribute in
      if case .graph(let graph) = attribute { names + graph.namesRead } else { names }
    }
  }
}

/// A graph inside a node: it reads the names of the graph around it, too.
public struct ONNXSubgraph: Sendable {
  /// In an order in which they can run.
  public let nodes: [ONNXNode]
  /// Constants by name.
  public let initializers: [String: HostTensor]
  /// Names of the values that the node gives it; none of a branch.
  public let inputs: [String]
  /// Names of the values it gives, in the order of the node's outputs.
  public let outputs: [String]

  /// Names of the values that it defines: nothing outside it sees them, and another graph may define the same.
  var ownNames: Set<String> { Set(inputs).union(initializers.keys).union(nodes.flatMap(\.outputs)).subtracting([""]) }

  /// Names of the values that it reads of the graph around it.
  fileprivate var namesRead: [String] {
    let own = ownNames
    return (nodes.flatMap(\.namesRead) + outputs).filter { !own.contains($0) }
  }
}

/// The value of a node's attribute.
public enum ONNXAttribute: Sendable {
  case integer(Int64)
  case float(Float)
  case string(String)
  case tensor(HostTensor)
  case integers([Int64])
  case floats([Float])
  case strings([String])
  /// What an operator runs or leaves: a branch of an If.
  case graph(ONNXSubgraph)
  /// Something that cannot be used, in words ("a type"). An error only when an operator needs it.
  case unsupported(String)

  /// The kind of value, for messages.
  public var kind: String {
    switch self {
    case .integer: "an integer"
    case .float: "a number"
    case .string: "a string"
    case .tensor: "a tensor"
    case .integers: "a list of integers"
    case .floats: "a list of numbers"
    case .strings: "a list of strings"
    case .graph: "a graph"
    case .unsupported(let kind): kind
    }
  }
}

/// Attributes by the type an operator expects; each is nil where the file does not set it.
///
/// - Throws: `ImportError` naming the node and the attribute if it has another type.
extension ONNXNode {
  public func integer(_ attribute: String) throws -> Int? {
    guard let value = attributes[attribute] else { return nil }
    guard case .integer(let integer) = value else { throw mismatch(attribute, value, "an integer") }
    return Int(integer)
  }

  public func float(_ attribute: String) throws -> Float? {
    guard let value = attributes[attribute] else { return nil }
    guard case .float(let float) = value else { throw mismatch(attribute, value, "a number") }
    return float
  }

  public func string(_ attribute: String) throws -> String? {
    guard let value = attributes[attribute] else { return nil }
    guard case .string(let string) = value else { throw mismatch(attribute, value, "a string") }
    return string
  }

  public func tensor(_ attribute: String) throws -> HostTensor? {
    guard let value = attributes[attribute] else { return nil }
    guard case .tensor(let tensor) = value else { throw mismatch(attribute, value, "a tensor") }
    return tensor
  }

  public func integers(_ attribute: String) throws -> [Int]? {
    guard let value = attributes[attribute] else { return nil }
    guard case .integers(let integers) = value else { throw mismatch(attribute, value, "a list of integers") }
    return integers.map { Int($0) }
  }

  public func graph(_ attribute: String) throws -> ONNXSubgraph? {
    guard let value = attributes[attribute] else { return nil }
    guard case .graph(let graph) = value else { throw mismatch(attribute, value, "a graph") }
    return graph
  }

  public func floats(_ attribute: String) throws -> [Float]? {
    guard let value = attributes[attribute] else { return nil }
    guard case .floats(let floats) = value else { throw mismatch(attribute, value, "a list of numbers") }
    return floats
  }

  private func mismatch(_ attribute: String, _ found: ONNXAttribute, _ expected: String) -> ImportError {
    error("its attribute \(quoted(attribute)) is \(found.kind), and \(expected) is expected")
  }
}
