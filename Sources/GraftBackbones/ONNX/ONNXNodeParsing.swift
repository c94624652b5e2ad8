import Foundation
import GraftGraph

extension ONNXNode {
  init(_ node: Onnx_NodeProto, file: String, _ tensors: inout ONNXTensorReader) throws {
    // The attributes need the label for their errors, and the label needs none of them.
    let bare = ONNXNode(
      file: file, name: node.name, opType: node.opType, domain: node.domain == "ai.onnx" ? "" : node.domain, inputs: node.input,
      outputs: node.output, attributes: [:])
    guard !node.opType.isEmpty else { throw bare.error("it does not say which operator it is", remedy: ONNXFile.exportAgain) }
    var attributes: [String: ONNXAttribute] = [:]
    for attribute in node.attribute {
      let value = try ONNXAttribute(attribute, of: bare, &tensors)
      guard attributes.updateValue(value, forKey: attribute.name) == nil else {
        throw bare.error("its attribute \(quoted(attribute.name)) is there twice", remedy: ONNXFile.exportAgain)
      }
    }
    self.init(
      file: file, name: bare.name, opType: bare.opType, domain: bare.domain, inputs: bare.inputs, outputs: bare.outputs,
      attributes: attributes)
  }
}

extension ONNXSubgraph {
  init(_ graph: Onnx_GraphProto, of node: ONNXNode, _ tensors: inout ONNXTensorReader) throws {
    guard graph.sparseInitializer.isEmpty else {
      throw node.error("the constants of its graph include sparse tensors, which are not read", remedy: ONNXFile.exportAgain)
    }
    var initializers: [String: HostTensor] = [:]
    for tensor in graph.initializer {
      let value = try tensors.read(tensor, label: "\(node.label), constant \(quoted(tensor.name))")
      guard initializers.updateValue(value, forKey: tensor.name) == nil else {
        throw node.error("the constant \(quoted(tensor.name)) of its graph is there twice", remedy: ONNXFile.exportAgain)
      }
    }
    self.initializers = initializers
    nodes = ONNXNode.inOrder(try graph.node.map { try ONNXNode($0, file: node.file, &tensors) })
    inputs = graph.input.map(\.name)
    outputs = graph.output.map(\.name)
  }
}

extension ONNXAttribute {
  init(_ attribute: Onnx_AttributeProto, of node: ONNXNode, _ tensors: inout ONNXTensorReader) throws {
    guard attribute.refAttrName.isEmpty else {
      self = .unsupported("a reference to a function's attribute")
      return
    }
    switch attribute.type == .undefined ? Self.impliedType(attribute) : attribute.type {
    case .int: self = .integer(attribute.i)
    case .float: self = .float(attribute.f)
    case .string: self = String(validating: attribute.s, as: UTF8.self).map(Self.string) ?? .unsupported("a string that is not UTF-8")
    case .ints: self = .integers(attribute.ints)
    case .floats: self = .floats(attribute.floats)
    case .strings:
      let strings = attribute.strings.compactMap { String(validating: $0, as: UTF8.self) }
      self = strings.count == attribute.strings.count ? .strings(strings) : .unsupported("a list of strings that are not UTF-8")
    case .tensor:
      guard ElementType(onnx: attribute.t.dataType) != nil else {
        self = .unsupported("a tensor of format \(ElementType.onnxName(attribute.t.dataType))")
        return
      }
      self = .tensor(try tensors.read(attribute.t, label: "\(node.label), attribute \(quoted(attribute.name))"))
    case .tensors: self = .unsupported("a list of tensors")
    case .graph: self = .graph(try ONNXSubgraph(attribute.g, of: node, &tensors))
    case .graphs: self = .unsupported("a list of graphs")
    case .sparseTensor, .sparseTensors: self = .unsupported("a sparse tensor")
    case .typeProto, .typeProtos: self = .unsupported("a type")
    case .undefined: self = .unsupported("of no type")
    case .UNRECOGNIZED(let number): self = .unsupported("of the unknown type \(number)")
    }
  }

  /// Format version 1 does not state the type: it is that of the field that is set.
  private static func impliedType(_ attribute: Onnx_AttributeProto) -> Onnx_AttributeProto.AttributeType {
    if attribute.hasI { return .int }
    if attribute.hasF { return .float }
    if attribute.hasS { return .string }
    if attribute.hasT { return .tensor }
    if !attribute.ints.isEmpty { return .ints }
    if !attribute.floats.isEmpty { return .floats }
    if !attribute.strings.isEmpty { return .strings }
    return .undefined
  }
}
