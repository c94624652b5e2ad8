import CKernels
import Foundation
import GraftDevice

/// What an optimiser's step is told anew each time: `[count]` float32, one input shared by all parameters.
public struct OptimizerRates: Sendable, Equatable {
  public var learningRate: Float
  public var weightDecay: Float
  /// SGD's momentum; AdamW's average of gradients.
  public var beta1: Float
  public var beta2: Float
  public var epsilon: Float
  /// Steps taken, this one included: AdamW's averages start at zero and are corrected for that.
  public var step: Int
  /// What gradients are multiplied by: undoes the scale of the loss.
  public var gradientScale: Float
  /// The most the norm of all gradients together may be; 0: no limit.
  public var normLimit: Float
  /// Whether parameters move; false while gradients are only gathered.
  public var applies: Bool

  public init(
    learningRate: Float, weightDecay: Float = 0, beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, step: Int = 1,
    gradientScale: Float = 1, normLimit: Float = 0, applies: Bool = true
  ) {
    (self.learningRate, self.weightDecay, self.beta1, self.beta2, self.epsilon) = (learningRate, weightDecay, beta1, beta2, epsilon)
    (self.step, self.gradientScale, self.normLimit, self.applies) = (step, gradientScale, normLimit, applies)
  }

  public static let count = Int(GRAFT_RATE_COUNT)
  public static let type = TensorType([count])

  /// As the device reads them.
  public var values: [Float] {
    var values = [Float](repeating: 0, count: Self.count)
    func set(_ place: Int, _ value: Float) { values[place] = value }
    set(GRAFT_RATE_LEARNING, learningRate)
    set(GRAFT_RATE_WEIGHT_DECAY, weightDecay)
    set(GRAFT_RATE_BETA1, beta1)
    set(GRAFT_RATE_BETA2, beta2)
    set(GRAFT_RATE_EPSILON, epsilon)
    set(GRAFT_RATE_CORRECTION1, Float(1 - pow(Double(beta1), Double(step))))
    set(GRAFT_RATE_CORRECTION2, Float(1 - pow(Double(beta2), Double(step))))
    set(GRAFT_RATE_GRADIENT, gradientScale)
    set(GRAFT_RATE_NORM_LIMIT, normLimit)
    set(GRAFT_RATE_APPLIES, applies ? 1 : 0)
    return values
  }
}

/// One step of an optimiser on one parameter, in place.
///
/// Inputs: the parameter and its gradient (one shape), the state (variables of that shape: one for SGD, two for AdamW), the rates
/// (`OptimizerRates`) and the sum of the squares of all gradients (`SquareSum`). The result is the parameter after the step.
/// Nothing changes where that sum is not finite.
///
/// SGD as PyTorch's (weight decay is added to the gradient, momentum without dampening); AdamW: Loshchilov and Hutter, "Decoupled
/// Weight Decay Regularization" (2019), as PyTorch's.
public struct OptimizerStep: Operation {
  public static let kind = "optimizerStep"
  public enum Method: String, Sendable, CaseIterable {
    case sgd, adamW = "adamw"

    /// Variables that it keeps for each parameter.
    public var stateCount: Int { self == .sgd ? 1 : 2 }
  }

  public var method: Method
  public var isNesterov: Bool
  /// Whether the weight decay applies to this parameter.
  public var decays: Bool
  /// The parameter's share of the learning rate.
  public var rateScale: Float

  public init(_ method: Method, isNesterov: Bool = false, decays: Bool = true, rateScale: Float = 1) {
    (self.method, self.isNesterov, self.decays, self.rateScale) = (method, isNesterov, decays, rateScale)
  }

  public var mutatedInputs: [Int] { [0] + (0..<method.stateCount).map { 2 + $0 } }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    let states = method.stateCount
    try ShapeError.expect(inputs.count == 4 + states, Self.kind, "\(inputs.count) inputs were given, not \(4 + states)")
    try ShapeError.expect(
      inputs[1..<2 + states].allSatisfy { $0.shape == inputs[0].shape }, Self.kind,
      "a parameter, its gradient and its state have one shape, \(inputs[..<(2 + states)].map(\.shape)) were found")
    try ShapeError.expect(
      inputs[2 + states] == OptimizerRates.type && inputs[3 + states].elementCount == 1, Self.kind,
      "rates \(OptimizerRates.type) and one sum of squares are expected, \(inputs.suffix(2)) was found")
    return inputs[0]
  }

  /// The parameter after the step.
  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor { step(inputs)[0] }

  /// The parameter and its state after the step.
  package func step(_ inputs: [ReferenceTensor]) -> [ReferenceTensor] {
    var result = [inputs[0]] + inputs[2..<2 + method.stateCount]
    let rates = inputs[2 + method.stateCount].values, squares = inputs[3 + method.stateCount].values[0]
    func rate(_ place: Int) -> Double { rates[place] }
    var scale = rate(GRAFT_RATE_GRADIENT)
    let norm = squares.squareRoot() * abs(scale), limit = rate(GRAFT_RATE_NORM_LIMIT)
    guard rate(GRAFT_RATE_APPLIES) != 0, norm.isFinite else { return result }
    if limit > 0, norm > limit { scale *= limit / norm }
    let learning = rate(GRAFT_RATE_LEARNING) * Double(rateScale), decay = decays ? rate(GRAFT_RATE_WEIGHT_DECAY) : 0
    let (beta1, beta2) = (rate(GRAFT_RATE_BETA1), rate(GRAFT_RATE_BETA2))
    for i in inputs[0].values.indices {
      let w = inputs[0].values[i], g = inputs[1].values[i] * scale
      switch method {
      case .sgd:
        let decayed = g + decay * w, m = beta1 * result[1].values[i] + decayed
        result[1].values[i] = m
        result[0].values[i] = w - learning * (isNesterov ? decayed + beta1 * m : m)
      case .adamW:
        let m = beta1 * result[1].values[i] + (1 - beta1) * g, v = beta2 * result[2].values[i] + (1 - beta2) * g * g
        (result[1].values[i], result[2].values[i]) = (m, v)
        let size: Double = (v / rate(GRAFT_RATE_CORRECTION2)).squareRoot() + rate(GRAFT_RATE_EPSILON)
        let move: Double = learning * m / rate(GRAFT_RATE_CORRECTION1) / size
        result[0].values[i] = w * (1 - learning * decay) - move
      }
    }
    return result
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { (method == .sgd ? 6 : 14) * Double(output.elementCount) }

  public func lower(_ context: inout LoweringContext) throws {
    let inputs = context.inputs, states = method.stateCount, count = context.type(inputs[0]).elementCount
    let p = GraftOptimizerParams(
      count: Int64(count), kind: method == .sgd ? Int32(GRAFT_OPTIMIZER_SGD) : Int32(GRAFT_OPTIMIZER_ADAMW),
      nesterov: isNesterov ? 1 : 0, decays: decays ? 1 : 0, rateScale: rateScale)
    let operands: [Operand?] = [
      .value(inputs[0]), .value(inputs[1]), .value(inputs[2]), states > 1 ? .value(inputs[3]) : nil, .value(inputs[2 + states]),
      context.parameter(inputs[3 + states]),
    ]
    context.launchInPlace("optimizer_step", operands, p, count: count, gradient: inputs[1], passes: 2 + 2 * states)
  }
}

/// y ← y · factors[0] + x · factors[1], in place: averages that follow a value, and sums over several batches.
///
/// Inputs: y (a variable) and x of one shape, factors [2]. The result is y afterwards. A factor of 0 takes nothing of its value,
/// whatever that is.
public struct Blend: Operation {
  public static let kind = "blend"
  public init() {}
  public var mutatedInputs: [Int] { [0] }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 3 && inputs[0].shape == inputs[1].shape && inputs[2].shape == [2], Self.kind,
      "two tensors of one shape and two factors are expected, \(inputs.map(\.shape)) were found")
    return inputs[0]
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let factors = inputs[2].values
    return ReferenceTensor(
      inputs[0].shape,
      zip(inputs[0].values, inputs[1].values).map { y, x in (factors[0] == 0 ? 0 : y * factors[0]) + (factors[1] == 0 ? 0 : x * factors[1]) })
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 3 * Double(output.elementCount) }

  public func lower(_ context: inout LoweringContext) throws {
    let inputs = context.inputs, count = context.type(inputs[0]).elementCount
    let p = GraftOptimizerParams(count: Int64(count), kind: 0, nesterov: 0, decays: 0, rateScale: 1)
    let operands: [Operand?] = [.value(inputs[0]), .value(inputs[1]), context.parameter(inputs[2])]
    context.launchInPlace("blend", operands, p, count: count, gradient: inputs[1], passes: 2)
  }
}

/// The sum of the squares of all elements of all inputs: [1]. Its root is the norm that gradients are clipped by.
public struct SquareSum: Operation {
  public static let kind = "squareSum"
  public init() {}
  public var resultIsFloat32: Bool { true }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType { TensorType([1]) }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    ReferenceTensor([1], [inputs.reduce(0) { $1.values.reduce($0) { $0 + $1 * $1 } }])
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 2 * inputs.reduce(0) { $0 + Double($1.elementCount) } }

  /// d(Σ x²)/dx = 2 x.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let inputs = context.inputs
    let twice = try context.scaled(context.upstream, by: 2)
    return try inputs.map { context.needs($0) ? try context.binary(.multiply, $0, twice) : nil }
  }

  public func lower(_ context: inout LoweringContext) throws {
    let partLength = 16384, counts = context.inputs.map { context.type($0).elementCount }
    let parts = counts.map { divideUp($0, partLength) }, total = parts.reduce(0, +), size = context.groupSize
    let options: [KernelReference.Option] = [.init("ROW_ITEMS", size), .init("ROW_COUNT", 1)]
    let partial = context.scratch(elementCount: max(1, total), precision: .float32)
    var first = 0
    for (place, input) in context.inputs.enumerated() where counts[place] > 0 {
      let p = GraftSquareSumParams(count: Int64(counts[place]), partLength: Int64(partLength), firstPart: Int64(first))
      let operands: [Operand?] = [.value(input), partial], format = context.precision(of: input), bytes = Double(context.byteCount(of: input))
      first += parts[place]
      switch context.traits.family {
      case .cpu:
        context.launch(
          "optimizer", "square_sums", operands, p, grid: Grid(parts[place]), flops: 2 * Double(counts[place]), bytes: bytes, precision: format)
      case .gpu:
        context.launchGroups(
          "optimizer", "square_sums", operands, p, count: parts[place], size: size, options: options, flops: 2 * Double(counts[place]), bytes: bytes,
          precision: format)
      }
    }
    let p = GraftSquareSumParams(count: Int64(total), partLength: 0, firstPart: 0)
    context.computeInFloat32 { context, y in
      switch context.traits.family {
      case .cpu: context.launch("optimizer", "square_sum_total", [partial, y], p, grid: Grid(1), flops: 0, bytes: 0, precision: .float32)
      case .gpu:
        context.launchGroups(
          "optimizer", "square_sum_total", [partial, y], p, count: 1, size: size, options: options, flops: 0, bytes: 0, precision: .float32)
      }
    }
  }
}

extension LoweringContext {
  /// A launch of Kernels/*/optimizer.cl that changes its first operand; `gradient` may lie in another format than float32.
  fileprivate mutating func launchInPlace(
    _ function: String, _ operands: [Operand?], _ p: GraftOptimizerParams, count: Int, gradient: ValueID, passes: Int
  ) {
    let bytes = Double(4 * passes * count + byteCount(of: gradient)), format = precision(of: gradient)
    switch traits.family {
    case .cpu: launch("optimizer", function, operands, p, grid: Grid(divideUp(count, 16384)), bytes: bytes, precision: format)
    case .gpu: launchItems("optimizer", function, operands, p, count: count, bytes: bytes, precision: format)
    }
  }
}
