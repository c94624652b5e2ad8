import Foundation
import GraftTraining
import Testing

/// A single function of a few variables.
private final class Function: SmoothObjective {
  let parameterCount: Int
  let headCount: Int
  private(set) var evaluationCount = 0
  private let body: (_ head: Int, _ x: [Double]) -> (Double, [Double])
  private let inverse: ((inout [Double]) -> Void)?

  init(
    parameterCount: Int, headCount: Int = 1, inverse: ((inout [Double]) -> Void)? = nil, _ body: @escaping (Int, [Double]) -> (Double, [Double])
  ) {
    (self.parameterCount, self.headCount, self.body, self.inverse) = (parameterCount, headCount, body, inverse)
  }

  func evaluate(parameters: [Double], active: [Bool], losses: inout [Double], gradients: inout [Double]) {
    evaluationCount += 1
    for head in active.indices where active[head] {
      let range = head * parameterCount..<(head + 1) * parameterCount
      let (loss, gradient) = body(head, Array(parameters[range]))
      losses[head] = loss
      gradients.replaceSubrange(range, with: gradient)
    }
  }

  func preconditioner(head: Int) -> (any Preconditioner)? {
    inverse.map { Inverse(body: $0) }
  }

  private struct Inverse: Preconditioner {
    let body: (inout [Double]) -> Void
    func solve(_ vector: inout [Double]) { body(&vector) }
  }
}

private func rosenbrock(_ x: [Double]) -> (Double, [Double]) {
  var (value, gradient) = (0.0, [Double](repeating: 0, count: x.count))
  for i in 0..<x.count - 1 {
    let (a, b) = (1 - x[i], x[i + 1] - x[i] * x[i])
    value += a * a + 100 * b * b
    gradient[i] += -2 * a - 400 * x[i] * b
    gradient[i + 1] += 200 * b
  }
  return (value, gradient)
}

@Suite struct LBFGSTests {
  private let tight = LBFGSOptions(gradientTolerance: 1e-8)

  @Test(arguments: [1.0, 1e2, 1e4, 1e6])
  func convexQuadraticsOfAnyCondition(condition: Double) throws {
    let size = 30
    let scale = (0..<size).map { pow(condition, Double($0) / Double(size - 1)) }
    let target = (0..<size).map { sin(Double($0)) }
    let quadratic = Function(parameterCount: size) { _, x in
      let difference = zip(x, target).map { $0 - $1 }
      let gradient = zip(scale, difference).map { $0 * $1 }
      return (zip(gradient, difference).reduce(0) { $0 + $1.0 * $1.1 / 2 } + 3, gradient)
    }
    // scipy's L-BFGS-B takes 626 iterations at condition 1e4 and 3970 at 1e6.
    let options = LBFGSOptions(gradientTolerance: 1e-8, maximumIterations: 6000)
    let result = try #require(try LBFGS(options: options).minimise(quadratic, from: [Double](repeating: 0, count: size)).first)
    #expect(result.status == .converged)
    #expect(result.gradientMaximum <= 1e-8)
    #expect(abs(result.loss - 3) < 1e-13)
    #expect(zip(result.parameters, target).allSatisfy { abs($0 - $1) < 1e-7 })
  }

  @Test func exactPreconditionerTakesAQuadraticInOneStep() throws {
    let scale = (0..<12).map { pow(10, Double($0) - 4) }
    let divide: (inout [Double]) -> Void = { vector in for i in vector.indices { vector[i] /= scale[i] } }
    let quadratic = Function(parameterCount: 12, inverse: divide) { _, x in
      let gradient = zip(scale, x).map { $0 * ($1 - 1) }
      return (zip(gradient, x).reduce(0) { $0 + $1.0 * ($1.1 - 1) / 2 }, gradient)
    }
    let result = try #require(
      try LBFGS(options: LBFGSOptions(gradientTolerance: 1e-6)).minimise(quadratic, from: [Double](repeating: 0, count: 12)).first)
    #expect(result.iterations == 1)
    #expect(result.evaluations == 2)
  }

  @Test(arguments: [2, 10, 50])
  func rosenbrockValley(size: Int) throws {
    let function = Function(parameterCount: size) { _, x in rosenbrock(x) }
    let start = (0..<size).map { $0 % 2 == 0 ? -1.2 : 1 }
    let result = try #require(try LBFGS(options: tight).minimise(function, from: start).first)
    #expect(result.status == .converged)
    // Larger valleys have a second stationary point; its loss is about 4.
    #expect(result.loss < 1e-14 || (size > 3 && abs(result.loss - 3.986) < 0.01))
    #expect(result.gradientMaximum <= 1e-8)
    #expect(result.evaluations < 6 * size + 100)
  }

  @Test func headsOfABatchMoveAsIfAlone() throws {
    let body: (Int, [Double]) -> (Double, [Double]) = { head, x in
      let (value, gradient) = rosenbrock(x)
      let weight = pow(10, Double(head) - 1)
      return (value * weight, gradient.map { $0 * weight })
    }
    let starts = (0..<3).map { [-1.2 + Double($0), 1, 0.5] }
    let batch = Function(parameterCount: 3, headCount: 3, body)
    let together = try LBFGS(options: tight).minimise(batch, from: starts.flatMap { $0 })
    for head in 0..<3 {
      let alone = Function(parameterCount: 3) { _, x in body(head, x) }
      #expect(try LBFGS(options: tight).minimise(alone, from: starts[head]) == [together[head]])
    }
    #expect(batch.evaluationCount == together.map(\.evaluations).max())
  }

  @Test func stopsAtTheIterationLimit() throws {
    let function = Function(parameterCount: 2) { _, x in rosenbrock(x) }
    let result = try #require(try LBFGS(options: LBFGSOptions(maximumIterations: 3)).minimise(function, from: [-1.2, 1]).first)
    #expect(result.status == .iterationLimit)
    #expect(result.iterations == 3)
    #expect(result.loss < 24.2)
  }

  @Test func withoutAnIterationTheStartIsMeasured() throws {
    let function = Function(parameterCount: 2) { _, x in rosenbrock(x) }
    let result = try #require(try LBFGS(options: LBFGSOptions(maximumIterations: 0)).minimise(function, from: [-1.2, 1]).first)
    #expect(result.status == .iterationLimit && result.iterations == 0 && result.evaluations == 1 && result.parameters == [-1.2, 1])
    let there = try #require(try LBFGS(options: LBFGSOptions(maximumIterations: 0)).minimise(function, from: [1, 1]).first)
    #expect(there.status == .converged)
  }

  @Test func startAtTheMinimum() throws {
    let function = Function(parameterCount: 2) { _, x in rosenbrock(x) }
    let result = try #require(try LBFGS().minimise(function, from: [1, 1]).first)
    #expect(result.status == .converged)
    #expect(result.evaluations == 1)
  }

  /// The gradient's square is 0 in double precision, and the gradient is not.
  @Test(arguments: [1e-170, 1e-300, Double.leastNormalMagnitude]) func gradientsNextToNothingAreConvergence(start: Double) throws {
    let function = Function(parameterCount: 1) { _, x in (x[0] * x[0] / 2, [x[0]]) }
    for options in [LBFGSOptions(), LBFGSOptions(relativeGap: 5e-9)] {
      let result = try #require(try LBFGS(options: options).minimise(function, from: [start]).first)
      #expect(result.status == .converged && result.parameters == [start])
    }
  }

  /// log(x) − x is −∞ at 0 and NaN below: the search must step back into the domain.
  @Test func stepsBackFromWhereTheLossIsNotANumber() throws {
    let barrier = Function(parameterCount: 1) { _, x in (x[0] - log(x[0]), [1 - 1 / x[0]]) }
    let result = try #require(try LBFGS(options: tight).minimise(barrier, from: [30]).first)
    #expect(result.status == .converged)
    #expect(abs(result.parameters[0] - 1) < 1e-7)
  }

  /// Rounding to about 7 digits, as float32 does.
  @Test func endsWhereRoundingHidesEveryDecrease() throws {
    let function = Function(parameterCount: 4) { _, x in
      let value = 5 + x.enumerated().reduce(0.0) { $0 + pow(10, Double($1.offset)) * ($1.element - 1) * ($1.element - 1) }
      return (Double(Float(value)), x.enumerated().map { Double(Float(pow(10, Double($0.offset)) * 2 * (Double(Float($0.element)) - 1))) })
    }
    let options = LBFGSOptions(gradientTolerance: 1e-30, lossPrecision: 1e-7)
    let result = try #require(try LBFGS(options: options).minimise(function, from: [0, 0, 0, 0]).first)
    #expect(abs(result.loss - 5) < 1e-6)
    #expect(result.iterations < 100)
    #expect(zip(result.parameters, [1, 1, 1, 1]).allSatisfy { abs($0 - $1) < 1e-4 })
  }

  @Test func neverReturnsNaN() {
    let undefined = Function(parameterCount: 2) { _, _ in (.nan, [0, 0]) }
    #expect(throws: DivergenceError.self) { try LBFGS().minimise(undefined, from: [0, 0]) }
    let infinite = Function(parameterCount: 2) { _, _ in (1, [.infinity, 0]) }
    #expect(throws: DivergenceError.self) { try LBFGS().minimise(infinite, from: [0, 0]) }
    let island = Function(parameterCount: 1) { _, x in x[0] == 0 ? (1, [1]) : (.nan, [.nan]) }
    #expect(throws: DivergenceError.self) { try LBFGS().minimise(island, from: [0]) }
    let bottomless = Function(parameterCount: 1) { _, x in (-x[0], [-1]) }
    #expect(throws: DivergenceError.self) { try LBFGS().minimise(bottomless, from: [0]) }
    #expect(DivergenceError(head: 0, reason: "x").description.contains("--l2"))
  }

  @Test func refusesOptionsWithoutMeaning() {
    let function = Function(parameterCount: 2) { _, x in rosenbrock(x) }
    for options in [
      LBFGSOptions(gradientTolerance: 0), LBFGSOptions(gradientTolerance: .nan), LBFGSOptions(maximumIterations: -1), LBFGSOptions(historyCount: 0),
    ] {
      #expect(throws: TrainingOptionError.self) { try LBFGS(options: options).minimise(function, from: [0, 0]) }
    }
    #expect(throws: TrainingOptionError.self) { try LBFGS().minimise(function, from: [0]) }
  }

  @Test func progressCanStopIt() {
    struct Stop: Error {}
    let function = Function(parameterCount: 2) { _, x in rosenbrock(x) }
    #expect(throws: Stop.self) { try LBFGS().minimise(function, from: [-1.2, 1]) { if $0.evaluations == 5 { throw Stop() } } }
    #expect(function.evaluationCount == 5)
  }
}
