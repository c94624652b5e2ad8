import GraftDevice
import GraftGraph

/// One case of an operation: attributes and inputs.
package struct OperationSample: Sendable, CustomStringConvertible {
  package let operation: any Operation
  package let inputs: [TensorType]
  /// Values inputs are drawn from; positive where a logarithm or a root is taken.
  package var range: ClosedRange<Double>
  /// Additions a result sums, which sets the bound on its error.
  package var terms: Int

  package init(operation: any Operation, inputs: [TensorType], range: ClosedRange<Double> = -1...1, terms: Int = 1) {
    (self.operation, self.inputs, self.range, self.terms) = (operation, inputs, range, terms)
  }

  package var description: String { "\(operation.kind) \(operation) on \(inputs.map(\.description))" }

  /// Arithmetic of the definition.
  package var flops: Double { (try? operation.outputType(inputs)).map { operation.flops(inputs, $0) } ?? 0 }

  /// Inputs as the device gets them, and as the reference does: numbers that the format holds.
  package func draw(seed: UInt64, precision: Precision = .float32) -> [HostTensor] {
    var generator = SplitMix(seed)
    return inputs.map { type in
      switch type.elementType {
      case .uint8:
        let bytes = (0..<type.elementCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
        return try! HostTensor(shape: type.shape, elementType: .uint8, storage: HostBytes(copying: bytes))
      case .int32:
        let classes = Int32(inputs[0].shape[1])
        let labels = (0..<type.elementCount).map { _ in Int32.random(in: -1..<classes, using: &generator) }
        return labels.withUnsafeBytes { try! HostTensor(shape: type.shape, elementType: .int32, storage: HostBytes(copying: Array($0))) }
      default:
        return HostTensor(type.shape, (0..<type.elementCount).map { _ in precision.rounded(Float(Double.random(in: range, using: &generator))) })
      }
    }
  }

  /// The largest error a correct float32 kernel may show: rounding grows with the root of the terms a sum has, the bound
  /// with the terms themselves for short sums.
  package func bound(_ reference: ReferenceTensor) -> Double {
    let scale = max(1, abs(range.upperBound), abs(range.lowerBound))
    let size = max(1, reference.values.reduce(0) { max($0, $1.isFinite ? abs($1) : 0) })
    return 1.2e-7 * (8 + 2 * Double(terms).squareRoot()) * max(scale, size)
  }

  /// The inputs of a product or a convolution with both factors rounded to tf32: what a unit for that computes with, exactly.
  package static func factorsInTF32(_ tensors: [HostTensor]) -> [HostTensor] {
    tensors.enumerated().map { $0 < 2 ? HostTensor($1.shape, $1.floats().map(roundedToTF32)) : $1 }
  }

  /// The nearest number with 11 bits, ties away from zero (PTX's `cvt.rna.tf32.f32`).
  package static func roundedToTF32(_ value: Float) -> Float {
    guard value.isNormal else { return value }
    let step = Float(sign: .plus, exponent: Int(value.exponent) - 10, significand: 1)
    return (value / step).rounded(.toNearestOrAwayFromZero) * step
  }

  /// The largest error of a result, beyond what storing it in that format may change; infinite where a result is not a number.
  ///
  /// - Parameter allowed: of each result, what its kernel may be off by besides.
  package func largestError(_ found: [Float], _ expected: ReferenceTensor, precision: Precision = .float32, allowed: [Double] = []) -> Double {
    zip(found, expected.values).enumerated().reduce(0.0) { worst, result in
      let (index, (found, value)) = result, allowed = allowed.isEmpty ? 0 : allowed[index]
      return max(worst, found.isNaN ? .infinity : abs(Double(found) - value) - allowed - precision.storageError(of: abs(value) + allowed))
    }
  }

  /// The operation as a graph of its own.
  ///
  /// - Parameter constants: whether all inputs but the first are constants, as a layer's weights are.
  package func graph(_ tensors: [HostTensor], constants: Bool) throws -> Graph {
    var graph = Graph()
    let ids = zip(inputs, tensors).enumerated().map { index, pair in
      if operation.mutatedInputs.contains(index) { return graph.addVariable(pair.0, name: "variable \(index)") }
      return constants && index > 0 ? graph.addConstant(pair.1, name: "constant \(index)") : graph.addInput(pair.0, name: "input \(index)")
    }
    graph.outputs = [try graph.add(any: operation, ids, name: "node")]
    return graph
  }
}

extension Precision {
  /// The nearest number that the format holds, ties to even.
  package func rounded(_ value: Float) -> Float {
    switch self {
    case .float32: return value
    case .float16: return HalfPrecision.float(fromHalf: HalfPrecision.half(fromFloat: value))
    case .bfloat16:
      let bits = value.bitPattern
      return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }
  }

  /// What storing a correct result may change: half the distance to the next number of the format, and its smallest number.
  package func storageError(of value: Double) -> Double {
    switch self {
    case .float32: 0
    case .bfloat16: abs(value) * 0x1p-8
    case .float16: abs(value) * 0x1p-11 + 0x1p-25
    }
  }
}
