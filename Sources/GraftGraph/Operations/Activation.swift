import CKernels
import Foundation

/// A function of one number, applied to every element, alone or at the end of another operation.
public enum Activation: Sendable, Hashable {
  case none
  case relu
  /// min(max(x, low), high); ReLU6 is clip(0, 6).
  case clip(Float, Float)
  /// x below zero times the slope.
  case leakyReLU(Float)
  case sigmoid
  case tanh
  /// min(max(slope x + offset, 0), 1)
  case hardSigmoid(Float, Float)
  /// x min(max(x/6 + 1/2, 0), 1)
  case hardSwish
  /// x sigmoid(x)
  case silu
  /// x/2 (1 + erf(x/√2))
  case gelu
  case geluTanh
  case erf
  case exp, log, sqrt, reciprocal, negate, absolute
  /// x below zero becomes alpha (exp x − 1).
  case elu(Float)
  /// log(1 + exp x)
  case softplus

  package var code: (kind: Int32, alpha: Float, beta: Float) {
    switch self {
    case .none: (Int32(GRAFT_ACTIVATION_NONE), 0, 0)
    case .relu: (Int32(GRAFT_ACTIVATION_RELU), 0, 0)
    case .clip(let low, let high): (Int32(GRAFT_ACTIVATION_CLIP), low, high)
    case .leakyReLU(let slope): (Int32(GRAFT_ACTIVATION_LEAKY_RELU), slope, 0)
    case .sigmoid: (Int32(GRAFT_ACTIVATION_SIGMOID), 0, 0)
    case .tanh: (Int32(GRAFT_ACTIVATION_TANH), 0, 0)
    case .hardSigmoid(let slope, let offset): (Int32(GRAFT_ACTIVATION_HARD_SIGMOID), slope, offset)
    case .hardSwish: (Int32(GRAFT_ACTIVATION_HARD_SWISH), 0, 0)
    case .silu: (Int32(GRAFT_ACTIVATION_SILU), 0, 0)
    case .gelu: (Int32(GRAFT_ACTIVATION_GELU), 0, 0)
    case .geluTanh: (Int32(GRAFT_ACTIVATION_GELU_TANH), 0, 0)
    case .erf: (Int32(GRAFT_ACTIVATION_ERF), 0, 0)
    case .exp: (Int32(GRAFT_ACTIVATION_EXP), 0, 0)
    case .log: (Int32(GRAFT_ACTIVATION_LOG), 0, 0)
    case .sqrt: (Int32(GRAFT_ACTIVATION_SQRT), 0, 0)
    case .reciprocal: (Int32(GRAFT_ACTIVATION_RECIPROCAL), 0, 0)
    case .negate: (Int32(GRAFT_ACTIVATION_NEGATE), 0, 0)
    case .absolute: (Int32(GRAFT_ACTIVATION_ABSOLUTE), 0, 0)
    case .elu(let alpha): (Int32(GRAFT_ACTIVATION_ELU), alpha, 0)
    case .softplus: (Int32(GRAFT_ACTIVATION_SOFTPLUS), 0, 0)
    }
  }

  /// Whether no result is below zero, whatever goes in.
  var isNeverNegative: Bool {
    switch self {
    case .relu, .sigmoid, .hardSigmoid, .exp, .absolute, .softplus: true
    case .clip(let low, let high): low >= 0 && high >= 0
    default: false
    }
  }

  /// The definition.
  public func callAsFunction(_ x: Double) -> Double {
    switch self {
    case .none: x
    case .relu: x < 0 ? 0 : x
    case .clip(let low, let high): x.isNaN ? x : min(max(x, Double(low)), Double(high))
    case .leakyReLU(let slope): x < 0 ? Double(slope) * x : x
    case .sigmoid: 1 / (1 + Foundation.exp(-x))
    case .tanh: Foundation.tanh(x)
    case .hardSigmoid(let slope, let offset): min(max(Double(slope) * x + Double(offset), 0), 1)
    case .hardSwish: x * min(max(x / 6 + 0.5, 0), 1)
    case .silu: x / (1 + Foundation.exp(-x))
    case .gelu: x / 2 * (1 + Foundation.erf(x / 2.0.squareRoot()))
    case .geluTanh: x / 2 * (1 + Foundation.tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .erf: Foundation.erf(x)
    case .exp: Foundation.exp(x)
    case .log: Foundation.log(x)
    case .sqrt: x.squareRoot()
    case .reciprocal: 1 / x
    case .negate: -x
    case .absolute: abs(x)
    case .elu(let alpha): x < 0 ? Double(alpha) * (Foundation.exp(x) - 1) : x
    case .softplus: max(x, 0) + Foundation.log1p(Foundation.exp(-abs(x)))
    }
  }
}

/// What happens to a sum before it is stored: y = activation(sum + bias + residual).
package func epilogue(_ activation: Activation, hasBias: Bool = false, hasResidual: Bool = false) -> GraftEpilogue {
  let code = activation.code
  return GraftEpilogue(
    activation: code.kind, alpha: code.alpha, beta: code.beta, hasBias: hasBias ? 1 : 0, hasResidual: hasResidual ? 1 : 0)
}
