import GraftGraph

extension ElementType {
  /// The format an ONNX file calls by this number (`TensorProto.DataType`), or nil for one that tensors here cannot have.
  init?(onnx dataType: Int32) {
    switch dataType {
    case 1: self = .float32
    case 2: self = .uint8
    case 3: self = .int8
    case 4: self = .uint16
    case 5: self = .int16
    case 6: self = .int32
    case 7: self = .int64
    case 9: self = .bool
    case 10: self = .float16
    case 11: self = .float64
    case 12: self = .uint32
    case 13: self = .uint64
    case 16: self = .bfloat16
    default: return nil
    }
  }

  /// What the specification calls the number format, for messages about those that are not read.
  static func onnxName(_ dataType: Int32) -> String {
    switch dataType {
    case 0: "undefined"
    case 8: "string"
    case 14: "complex64"
    case 15: "complex128"
    case 17...20: "float8"
    case 21: "uint4"
    case 22: "int4"
    case 23: "float4e2m1"
    default: ElementType(onnx: dataType)?.rawValue ?? "number \(dataType)"
    }
  }
}
