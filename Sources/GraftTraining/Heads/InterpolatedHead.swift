import Foundation

/// A head that was not solved for: the one on the curve through heads of neighbouring λ.
///
/// Between strengths, parameters, or λ times parameters where these tend to a constant, are a polynomial of log λ (Lagrange's, through
/// the nearest that are known). Logits are linear in
/// parameters: those of a mixture of heads are the mixture of theirs, and a score costs no product.
///
/// How far it is above its minimum is told by what the last of the known heads changes: with δ the change of the logits and p the
/// probabilities, the mean over the samples of Var_p(δ)/2, and λ/2·‖δW‖² of the penalty. That is the loss's growth by its second
/// derivatives, on samples that are not trained on.
struct InterpolatedHead: Sendable {
  /// Known heads a curve goes through, and the fewest: with three and one fewer, the change is a parabola's to a line.
  static let knotCount = 5, leastKnotCount = 4

  /// What the heads of other λ count.
  let shares: [(l2: Double, share: Double)]
  let top1: Double
  let logLoss: Double
  /// How far the loss is thought to lie above its minimum.
  let gap: Double

  /// - Parameter candidates: those that were known, among others.
  func parameters(of candidates: [Sweep.Candidate]) -> [Double] {
    Self.mix(shares.compactMap { l2, share in candidates.first { $0.isSolved && $0.l2 == l2 }.map { ($0.parameters, share) } })
  }

  /// The heads of `strengths`, each above 0 and between two that are known.
  ///
  /// - Parameters:
  ///   - known: solved for; their logits are of samples with `labels`.
  static func find(_ strengths: [Double], among known: [Sweep.Candidate], problem: LinearProblem, labels: [Int]) -> [InterpolatedHead] {
    let usable = known.filter { $0.l2 > 0 }
    var found = [InterpolatedHead?](repeating: nil, count: strengths.count)
    found.withUnsafeMutableBufferPointer { found in
      // Each call writes to an element of its own.
      nonisolated(unsafe) let found = found
      inParallel(strengths.count) { found[$0] = InterpolatedHead(l2: strengths[$0], among: usable, problem: problem, labels: labels) }
    }
    return found.compactMap(\.self)
  }

  private init(l2: Double, among known: [Sweep.Candidate], problem: LinearProblem, labels: [Int]) {
    let nearest = Array(known.sorted { abs(log($0.l2 / l2)) < abs(log($1.l2 / l2)) }.prefix(Self.knotCount))
    let forms = [false, true].map { Form(nearest, l2: l2, isScaled: $0, problem: problem, labels: labels) }
    let form = forms[0].gap <= forms[1].gap ? forms[0] : forms[1]
    shares = zip(nearest, form.shares).map { ($0.l2, $1) }
    (top1, logLoss) = (form.accuracy.top1, form.accuracy.logLoss)
    gap = nearest.count < Self.leastKnotCount ? .infinity : form.gap
  }

  /// One of the curves, at `l2`.
  private struct Form {
    let shares: [Double]
    let accuracy: TopAccuracy
    let gap: Double

    init(_ known: [Sweep.Candidate], l2: Double, isScaled: Bool, problem: LinearProblem, labels: [Int]) {
      func shares(_ known: some Collection<Sweep.Candidate>) -> [Double] {
        known.map { own in
          var share = isScaled ? own.l2 / l2 : 1
          for other in known where other.l2 != own.l2 { share *= log(l2 / other.l2) / log(own.l2 / other.l2) }
          return share
        }
      }
      let all = shares(known), change = zip(all, shares(known.dropLast()) + [0]).map { $0 - $1 }
      let logits = InterpolatedHead.mix(zip(known, all).map { ($0.logits, $1) })
      let changes = InterpolatedHead.mix(zip(known, change).map { ($0.logits, $1) })
      let weights = InterpolatedHead.mix(zip(known, change).map { ($0.parameters, $1) }).prefix(problem.weightCount)
      var (accuracy, spread) = (TopAccuracy(classCount: problem.classCount), 0.0)
      logits.withUnsafeBufferPointer { logits in
        changes.withUnsafeBufferPointer { changes in
          for (row, label) in labels.enumerated() {
            let place = row * problem.classCount..<(row + 1) * problem.classCount
            let own = UnsafeBufferPointer(rebasing: logits[place])
            _ = accuracy.add(own, label: label)
            spread += InterpolatedHead.variance(own, UnsafeBufferPointer(rebasing: changes[place]))
          }
        }
      }
      (self.shares, self.accuracy) = (all, accuracy)
      gap = spread / 2 / Double(max(1, labels.count)) + l2 / 2 * weights.reduce(0) { $0 + $1 * $1 }
    }
  }

  private static func mix<Number: BinaryFloatingPoint>(_ parts: [(values: [Number], share: Double)]) -> [Number] {
    var result = [Number](repeating: 0, count: parts.first?.values.count ?? 0)
    for (values, share) in parts {
      let share = Number(share)
      result.withUnsafeMutableBufferPointer { result in
        values.withUnsafeBufferPointer { values in
          for index in 0..<min(result.count, values.count) { result[index] += share * values[index] }
        }
      }
    }
    return result
  }

  /// The variance of `x` under the softmax of `logits`.
  private static func variance(_ logits: UnsafeBufferPointer<Float>, _ x: UnsafeBufferPointer<Float>) -> Double {
    let largest = logits.max() ?? 0
    var (total, first, second) = (0.0, 0.0, 0.0)
    for (logit, x) in zip(logits, x) {
      let weight = exp(Double(logit - largest)), x = Double(x)
      total += weight
      first += weight * x
      second += weight * x * x
    }
    let mean = first / total
    return max(0, second / total - mean * mean)
  }
}
