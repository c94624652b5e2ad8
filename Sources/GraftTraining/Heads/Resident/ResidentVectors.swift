import GraftDevice

/// A head's vectors on a device. The two loops of L-BFGS run over numbers alone: the products of steps and changes are kept as
/// they come, so that a direction takes two sums of vectors and two sets of products.
///
/// Source: Chen, Wang and Zhou, "Large-scale L-BFGS using MapReduce", 2014 (the recursion on inner products).
final class ResidentVectors: SolverVectors {
  private struct Step {
    /// Which of the rows.
    let slot: Int
    /// sᵀy and yᵀy.
    let curvature, square: Double
  }

  let vectors: DeviceVectors
  let capacity: Int
  private let makePreconditioner: () throws -> ResidentPreconditioner?
  private var preconditioner: ResidentPreconditioner?
  /// Oldest first.
  private var steps: [Step] = []
  /// Of steps s and changes y by slot: s_i·y_j where i is no newer than j.
  private var products: [[Double]]
  private var hasDirection = false

  private(set) var point = 0
  private var gradient = 1
  private(set) var trial = 2, trialGradient = 3
  private let direction = 4, work = 5, solved = 6
  private static let fixedRows = 7

  private func step(_ slot: Int) -> Int { Self.fixedRows + slot }
  private func change(_ slot: Int) -> Int { Self.fixedRows + capacity + 1 + slot }

  /// Vectors that a head takes.
  static func rowCount(historyCount: Int) -> Int { fixedRows + 2 * (historyCount + 1) }

  /// - Parameters:
  ///   - start: `[P]`
  ///   - preconditioner: the one at the point.
  init(_ device: any Device, start: [Double], historyCount: Int, preconditioner: @escaping () throws -> ResidentPreconditioner?) throws {
    vectors = try DeviceVectors(device, rows: Self.rowCount(historyCount: historyCount), length: start.count)
    // One slot more than steps: a new pair is measured before it takes an old one's place.
    capacity = historyCount
    products = Array(repeating: [Double](repeating: 0, count: historyCount + 1), count: historyCount + 1)
    makePreconditioner = preconditioner
    try vectors.write(start.map(Float.init), to: trial)
  }

  /// Takes the vectors over from a head of another λ that is done, with the steps it remembers: what the data say about the curvature
  /// along them hardly differs, and the penalty's part is known.
  ///
  /// - Parameters:
  ///   - l2Change: the new λ less the old.
  ///   - weightCount: the first elements of a vector, which are penalised.
  init(
    following other: ResidentVectors, start: [Double], l2Change: Double, weightCount: Int,
    preconditioner: @escaping () throws -> ResidentPreconditioner?
  ) throws {
    (vectors, capacity, products, makePreconditioner) = (other.vectors, other.capacity, other.products, preconditioner)
    try vectors.write(start.map(Float.init), to: trial)
    let slots = other.steps.map(\.slot)
    for slot in slots { try vectors.set(change(slot), 0..<weightCount, to: [(change(slot), 1), (step(slot), l2Change)]) }
    let pairs = slots.indices.flatMap { older in (older..<slots.count).map { (slots[older], slots[$0]) } }
    let found = try vectors.measure(pairs.map { .dot(step($0), change($1)) } + slots.map { .dot(change($0), change($0)) })
    for ((older, newer), product) in zip(pairs, found) { products[older][newer] = product }
    for (slot, square) in zip(slots, found[pairs.count...]) where products[slot][slot] > 0 && products[slot][slot].isFinite {
      steps.append(Step(slot: slot, curvature: products[slot][slot], square: square))
    }
  }

  var isPreconditioned: Bool { preconditioner != nil }
  var historyIsEmpty: Bool { steps.isEmpty }

  func measureTrial() throws -> (gradientMaximum: Double, slope: Double?) {
    let found = try vectors.measure([.maximum(trialGradient)] + (hasDirection ? [.dot(trialGradient, direction)] : []))
    return (found[0], hasDirection ? found[1] : nil)
  }

  func acceptTrial(length: Double?) throws {
    if let length { try remember(length: length) }
    swap(&point, &trial)
    swap(&gradient, &trialGradient)
  }

  /// Keeps the step and the change of the gradient, unless rounding took the positive curvature from them.
  private func remember(length: Double) throws {
    let used = Set(steps.map(\.slot))
    guard let slot = (0...capacity).first(where: { !used.contains($0) }) else { return }
    try vectors.set(step(slot), to: [(direction, length)])
    try vectors.set(change(slot), to: [(trialGradient, 1), (gradient, -1)])
    let older = steps.map(\.slot), new = change(slot)
    let found = try vectors.measure([.dot(step(slot), new), .dot(step(slot), step(slot)), .dot(new, new)] + older.map { .dot(step($0), new) })
    guard found[0].isFinite, found[0] > 1e-14 * (found[1] * found[2]).squareRoot() else { return }
    for (place, other) in older.enumerated() { products[other][slot] = found[3 + place] }
    if steps.count == capacity { steps.removeFirst() }
    steps.append(Step(slot: slot, curvature: found[0], square: found[2]))
  }

  func findDirection() throws -> Double {
    let slopes = try vectors.measure(steps.map { .dot(step($0.slot), gradient) })
    var weights = [Double](repeating: 0, count: steps.count)
    for place in steps.indices.reversed() {
      var sum = slopes[place]
      for newer in steps.indices where newer > place { sum -= weights[newer] * products[steps[place].slot][steps[newer].slot] }
      weights[place] = sum / steps[place].curvature
    }
    try vectors.set(work, to: [(gradient, 1)] + zip(steps, weights).map { (change($0.slot), -$1) })
    var measures = [DeviceVectors.Measure.dot(gradient, work)] + steps.map { .dot(change($0.slot), work) }
    if let preconditioner {
      try preconditioner.solve(vectors, row: work, into: work)
      if let newest = steps.last {
        try preconditioner.solve(vectors, row: change(newest.slot), into: solved)
        measures.append(.dot(change(newest.slot), solved))
      }
    }
    let found = try vectors.measure(measures)
    var scale = 1.0
    if let newest = steps.last {
      let norm = preconditioner == nil ? newest.square : found[found.count - 1]
      if norm > 0, norm.isFinite { scale = newest.curvature / norm }
    }
    var slope = scale * found[0]
    var terms: [DeviceVectors.Term] = [(work, -scale)]
    for place in steps.indices {
      var sum = scale * found[1 + place]
      for older in 0..<place { sum += weights[older] * products[steps[older].slot][steps[place].slot] }
      // From here on the weight is that of the step itself.
      weights[place] -= sum / steps[place].curvature
      slope += weights[place] * slopes[place]
      terms.append((step(steps[place].slot), -weights[place]))
    }
    try vectors.set(direction, to: terms)
    hasDirection = true
    return -slope
  }

  func moveTrial(length: Double) throws { try vectors.set(trial, to: [(point, 1), (direction, length)]) }
  func gradientMagnitude() throws -> Double { try vectors.measure([.magnitude(gradient)])[0] }
  func clearHistory() { steps.removeAll() }
  func renewPreconditioner() throws { preconditioner = try makePreconditioner() }
  func dropPreconditioner() { preconditioner = nil }
  func position() throws -> [Double] { try vectors.read(point).map(Double.init) }
}
