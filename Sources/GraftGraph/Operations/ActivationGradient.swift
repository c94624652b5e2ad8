import CKernels
import Foundation
import GraftDevice

extension Activation {
  /// Whether its derivative is a function of its result, so that what it acted on need not be kept.
  var hasDerivativeOfResult: Bool {
    switch self {
    case .none, .relu, .sigmoid, .tanh, .hardSigmoid, .exp, .sqrt, .reciprocal, .negate: true
    case .clip(let low, let high): low < high
    case .leakyReLU(let slope): slope > 0
    case .elu(let alpha): alpha > 0
    default: false
    }
  }

  /// The derivative, from the result y where `hasDerivativeOfResult` says so and from the argument x elsewhere; at a kink that of
  /// PyTorch: 0 at a clipped end and at relu's 0.
  func derivative(_ v: Double) -> Double {
    switch self {
    case .none: 1
    case .relu: v > 0 ? 1 : 0
    case .clip(let low, let high): v > Double(low) && v < Double(high) ? 1 : 0
    case .leakyReLU(let slope): v < 0 ? Double(slope) : v > 0 ? 1 : Double(slope)
    case .sigmoid: v * (1 - v)
    case .tanh: 1 - v * v
    case .hardSigmoid(let slope, _): v > 0 && v < 1 ? Double(slope) : 0
    case .hardSwish: v <= -3 ? 0 : v < 3 ? v / 3 + 0.5 : 1
    case .silu:
      { s in s * (1 + v * (1 - s)) }(1 / (1 + Foundation.exp(-v)))
    case .gelu:
      (1 + Foundation.erf(v / 2.0.squareRoot())) / 2 + v * Foundation.exp(-v * v / 2) / (2 * Double.pi).squareRoot()
    case .geluTanh:
      { (t, u) in (1 + t) / 2 + v / 2 * (1 - t * t) * u }(
        Foundation.tanh((2 / Double.pi).squareRoot() * (v + 0.044715 * v * v * v)), (2 / Double.pi).squareRoot() * (1 + 3 * 0.044715 * v * v))
    case .erf: 2 / Double.pi.squareRoot() * Foundation.exp(-v * v)
    case .exp: v
    case .log: 1 / v
    case .sqrt: 0.5 / v
    case .reciprocal: -v * v
    case .negate: -1
    case .absolute: v > 0 ? 1 : v < 0 ? -1 : 0
    case .elu(let alpha): v < 0 ? v + Double(alpha) : v > 0 ? 1 : Double(alpha)
    case .softplus: 1 / (1 + Foundation.exp(-v))
    }
  }
}

/// The gradient of an activation: dx = activation′ · dy, elementwise.
///
/// Inputs: the activation's result y, or its argument x where the derivative is no function of the result; dy. All of one shape.
public struct ActivationGradient: Operation {
  public static let kind = "activationGradient"
  public var activation: Activation
  public init(_ activation: Activation) { self.activation = activation }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 2 && inputs[0].shape == inputs[1].shape, Self.kind, "two tensors of one shape are expected, \(inputs.map(\.shape)) were found")
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    ReferenceTensor(inputs[0].shape, zip(inputs[0].values, inputs[1].values).map { activation.derivative($0) * $1 })
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { !hasImages.contains(false) }

  public func lower(_ context: inout LoweringContext) throws {
    let count = context.type(context.output).elementCount
    let length = count % 1024 == 0 ? 1024 : count % 64 == 0 ? 64 : count
    let rows = count / max(1, length)
    let p = GraftUnaryParams(
      rows: Int64(rows), channels: Int32(length), ldx: Int32(length), ldy: Int32(length), hasScale: 0, hasShift: 0, epilogue: epilogue(activation))
    let operands: [Operand?] = [context.stored(context.inputs[0]), context.stored(context.inputs[1]), .value(context.output)]
    switch context.traits.family {
    case .cpu: context.launch("gradient", "activation_gradient", operands, p, grid: Grid(divideUp(rows, 16), divideUp(length, 4096)))
    case .gpu:
      let width = context.vector([length], operands)
      context.launchItems(
        "gradient", "activation_gradient", operands, p, count: count / width,
        options: LoweringContext.vectorOption(width) + [.init("ACTIVATION", Int(activation.code.kind))])
    }
  }
}
