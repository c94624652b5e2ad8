import GraftGraph

/// An input or output of an ONNX graph: its name and what the file says of its type.
public struct ONNXValue: Sendable, Hashable {
  /// One extent of a shape.
  public enum Extent: Sendable, Hashable, CustomStringConvertible {
    case fixed(Int)
    /// Known only when the model runs; the file's name for it ("N"), or empty.
    case symbolic(String)

    public var description: String {
      switch self {
      case .fixed(let extent): String(extent)
      case .symbolic(let name): name.isEmpty ? "?" : name
      }
    }
  }

  public let name: String
  /// Nil for what is no tensor, or a tensor of a format that is not read.
  public let elementType: ElementType?
  /// Nil when not even the rank is known.
  public let shape: [Extent]?

  public init(name: String, elementType: ElementType?, shape: [Extent]?) {
    (self.name, self.elementType, self.shape) = (name, elementType, shape)
  }

  init(_ value: Onnx_ValueInfoProto) {
    let tensor = value.type.tensorType
    self.init(
      name: value.name,
      elementType: value.type.hasTensorType ? ElementType(onnx: tensor.elemType) : nil,
      shape: tensor.hasShape ? tensor.shape.dim.map(Self.extent) : nil)
  }

  private static func extent(_ dimension: Onnx_TensorShapeProto.Dimension) -> Extent {
    switch dimension.value {
    // Some exporters write -1 for an extent they do not know.
    case .dimValue(let extent): extent < 0 ? .symbolic("") : .fixed(Int(extent))
    case .dimParam(let name): .symbolic(name)
    case nil: .symbolic("")
    }
  }
}
