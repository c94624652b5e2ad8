/// Ridge regression for every strength at once, with each strength's leave-one-out error.
///
/// Minimises Σ‖y − W·x − b‖² + α·‖W‖² with y one column a target, or, as scikit-learn's RidgeClassifier has it, a class: +1 for the
/// sample's own and −1 elsewhere. b is not penalised. One matrix is brought to tridiagonal form, `[D, D]` or `[N, N]`, whichever is
/// smaller; then a strength costs a product. Leaving a sample out changes its prediction by a factor of its leverage h alone,
/// so that all N fits without one sample cost nothing: e/(1 − h).
///
/// Sources: Allen, "The relationship between variable selection and data augmentation and a method for prediction", 1974;
/// Golub, Heath and Wahba, "Generalized cross-validation", 1979; scikit-learn's RidgeClassifierCV, whose numbers these are.
package final class RidgePath {
  /// One strength, judged by samples that its fit left out.
  package struct Point: Sendable, Equatable {
    package let alpha: Double
    /// Mean over samples and classes of the squared error.
    package let error: Double
    package let score: ValidationScore
    /// What each sample's fit without it says, `[N, C]`.
    package let predictions: [Float]
  }

  /// y
  private enum Targets {
    /// `[N]`; ±1 for each class.
    case classes([Int])
    /// `[N, C]`
    case values([Double])
  }

  private let source: NormalisedFeatures
  private let targets: Targets
  private let rowCount: Int
  private let classCount: Int
  private let transform: FeatureTransform
  /// Of the normalised features, `[D]`
  private let mean: [Double]
  /// Means of the targets, `[C]`
  private let targetMean: [Double]
  private let form: TridiagonalForm
  /// Whether the matrix is `[N, N]`.
  private let isDual: Bool
  /// Dual: the centred features, `[N, D]`, which fit since D·N < D².
  private let rows: [Double]
  /// What the dual matrix has in the direction of the ones, which centring leaves at zero.
  private let lift: Double

  package var dimension: Int { source.dimension }

  /// - Throws: `TrainingDataError`, or what reading the features throws.
  package convenience init(_ data: LabelledFeatures, classCount: Int, normalisation: FeatureNormalisation) throws {
    let counts = try data.classCounts(classCount: classCount), count = Double(data.rowCount)
    try self.init(
      data.features, .classes(data.labels), targetMean: counts.map { 2 * Double($0) / count - 1 }, normalisation: normalisation
    ) { data.name(ofRow: $0) }
  }

  /// - Parameter targets: `[N, T]`, in the units they are fitted in.
  package convenience init(_ data: TargetedFeatures, targets: [Double], normalisation: FeatureNormalisation) throws {
    precondition(targets.count == data.targets.count)
    var mean = [Double](repeating: 0, count: data.targetCount)
    for (index, value) in targets.enumerated() { mean[index % data.targetCount] += value / Double(max(1, data.rowCount)) }
    try self.init(data.features, .values(targets), targetMean: mean, normalisation: normalisation) { data.name(ofRow: $0) }
  }

  private init(
    _ features: any FeatureSource, _ targets: Targets, targetMean: [Double], normalisation: FeatureNormalisation, name: (Int) -> String
  ) throws {
    let statistics = try FeatureStatistics(features, sampleLimit: 0, name: name)
    guard statistics.largestMagnitude <= LinearProblem.largestFeature || normalisation != .none else {
      throw TrainingDataError.tooLarge(statistics.largestMagnitude)
    }
    transform = FeatureTransform(normalisation, statistics: statistics)
    source = NormalisedFeatures(base: features, transform: transform)
    (self.targets, self.targetMean, classCount) = (targets, targetMean, targetMean.count)
    let (n, width) = (features.rowCount, features.dimension)
    rowCount = n
    guard n > 0 else { throw TrainingDataError(message: "there are no samples to train on") }
    isDual = n < width
    let limit = 16384
    guard min(n, width) <= limit else {
      throw TrainingDataError(
        message: "ridge takes at most \(limit) features or samples, whichever are fewer; there are \(width) and \(n). Use --head linear.")
    }
    var mean = [Double](repeating: 0, count: width)
    try source.forEachChunk { chunk in
      for row in 0..<chunk.rowCount { for column in 0..<width { mean[column] += Double(chunk.values[row * width + column]) } }
    }
    for column in 0..<width { mean[column] /= Double(n) }
    self.mean = mean
    var gram: [Double], kept: [Double] = []
    if isDual {
      kept.reserveCapacity(n * width)
      try Self.forEachCentred(source, mean) { _, _, block in kept += block }
      var transposed = [Double](repeating: 0, count: n * width)
      for row in 0..<n { for column in 0..<width { transposed[column * n + row] = kept[row * width + column] } }
      gram = [Double](repeating: 0, count: n * n)
      BlockedProduct.addGram(transposed, rows: width, columns: n, to: &gram)
      let trace = (0..<n).reduce(0) { $0 + gram[$1 * n + $1] }
      lift = max(trace / Double(n), .leastNormalMagnitude)
      for index in gram.indices { gram[index] += lift / Double(n) }
    } else {
      gram = [Double](repeating: 0, count: width * width)
      try Self.forEachCentred(source, mean) { _, count, block in BlockedProduct.addGram(block, rows: count, columns: width, to: &gram) }
      lift = 0
    }
    gram.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { BlockedProduct.mirror(base, order: min(n, width)) } }
    rows = kept
    form = TridiagonalForm(gram, order: min(n, width))
  }

  /// Every strength's leave-one-out error, of a classifier.
  ///
  /// - Throws: `TrainingOptionError` for a strength that rounding swallows.
  package func leaveOneOut(_ alphas: [Double]) throws -> [Point] {
    guard case .classes(let labels) = targets else { return [] }
    return try zip(alphas, leaveOneOutPredictions(alphas)).map { alpha, found in
      let held = try HeldOutScores(logits: found.predictions, labels: labels, classCount: classCount, source: .leaveOneOut)
      return Point(alpha: alpha, error: found.error, score: held.score(), predictions: found.predictions)
    }
  }

  /// For every strength what each sample's fit without it says, `[N, C]`, and the mean squared error of that.
  ///
  /// - Throws: `TrainingOptionError` for a strength that rounding swallows.
  package func leaveOneOutPredictions(_ alphas: [Double]) throws -> [(error: Double, predictions: [Float])] {
    let factors = try alphas.map { try factor($0) }
    let parts = try isDual ? dualErrors(factors, alphas) : primalErrors(factors)
    return parts.map { errors in
      // `errors` are y − ŷ of the fit without the sample.
      var sum = 0.0
      var predictions = [Float](repeating: 0, count: errors.count)
      for row in 0..<rowCount {
        for output in 0..<classCount {
          let error = errors[row * classCount + output]
          sum += error * error
          predictions[row * classCount + output] = Float(target(row, output) - error)
        }
      }
      return (sum / Double(errors.count), predictions)
    }
  }

  /// W `[C, D]` and b `[C]` for raw features (but for the division by length).
  package func layer(alpha: Double) throws -> (weight: [Double], bias: [Double]) {
    let factor = try factor(alpha), width = dimension, n = rowCount
    // [D, C] or [N, C]
    var solution = try isDual ? centredTargets() : crossProduct()
    solution = solve(factor, solution)
    if isDual {
      var weight = [Double](repeating: 0, count: width * classCount)
      var transposed = [Double](repeating: 0, count: n * width)
      for row in 0..<n { for column in 0..<width { transposed[column * n + row] = rows[row * width + column] } }
      BlockedProduct.add(transposed, rows: width, depth: n, solution, columns: classCount, to: &weight)
      solution = weight
    }
    var (weight, bias) = ([Double](repeating: 0, count: classCount * width), targetMean)
    for output in 0..<classCount {
      for column in 0..<width {
        weight[output * width + column] = solution[column * classCount + output]
        bias[output] -= weight[output * width + column] * mean[column]
      }
    }
    return transform.fold(weight: weight, bias: bias)
  }

  // MARK: Parts

  private func factor(_ alpha: Double) throws -> ShiftedTridiagonal {
    guard alpha >= 0, alpha.isFinite, let factor = form.shifted(by: alpha) else {
      throw TrainingOptionError(
        message: "the strength \(alpha) is too small for these features: without a penalty the weights are not determined. Give a larger --alpha.")
    }
    return factor
  }

  /// Q·(T + α)⁻¹·Qᵀ·b for columns b.
  private func solve(_ factor: ShiftedTridiagonal, _ columns: [Double]) -> [Double] {
    let n = form.order
    var transposed = [Double](repeating: 0, count: n * n)
    for row in 0..<n { for column in 0..<n { transposed[column * n + row] = form.q[row * n + column] } }
    var inner = [Double](repeating: 0, count: n * classCount), result = inner
    BlockedProduct.add(transposed, rows: n, depth: n, columns, columns: classCount, to: &inner)
    inner.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { factor.solve(base, columns: classCount) } }
    BlockedProduct.add(form.q, rows: n, depth: n, inner, columns: classCount, to: &result)
    return result
  }

  private func target(_ row: Int, _ output: Int) -> Double {
    switch targets {
    case .classes(let labels): labels[row] == output ? 1 : -1
    case .values(let values): values[row * classCount + output]
    }
  }

  private func centredTargets(_ range: Range<Int>? = nil) -> [Double] {
    (range ?? 0..<rowCount).flatMap { row in (0..<classCount).map { target(row, $0) - targetMean[$0] } }
  }

  /// Xᵀ·Y of centred features and targets, `[D, C]`: for classes sums of the rows of each, since their targets take two values.
  private func crossProduct() throws -> [Double] {
    let (width, classes) = (dimension, classCount)
    var sums = [Double](repeating: 0, count: width * classes)
    guard case .classes(let labels) = targets else {
      try Self.forEachCentred(source, mean) { first, count, block in
        var transposed = [Double](repeating: 0, count: count * width)
        for row in 0..<count { for column in 0..<width { transposed[column * count + row] = block[row * width + column] } }
        BlockedProduct.add(transposed, rows: width, depth: count, centredTargets(first..<first + count), columns: classes, to: &sums)
      }
      return sums
    }
    try Self.forEachCentred(source, mean) { first, count, block in
      for row in 0..<count {
        let label = labels[first + row]
        for column in 0..<width { sums[column * classes + label] += 2 * block[row * width + column] }
      }
    }
    return sums
  }

  /// `[α][N, C]`
  private func primalErrors(_ factors: [ShiftedTridiagonal]) throws -> [[Double]] {
    let (width, classes, n) = (dimension, classCount, rowCount)
    let cross = try crossProduct()
    let solutions = factors.map { solve($0, cross) }
    var errors = factors.map { _ in [Double](repeating: 0, count: n * classes) }
    try Self.forEachCentred(source, mean) { first, count, block in
      var turned = [Double](repeating: 0, count: count * width)
      BlockedProduct.add(block, rows: count, depth: width, form.q, columns: width, to: &turned)
      let targets = centredTargets(first..<first + count)
      for index in factors.indices {
        var fitted = [Double](repeating: 0, count: count * classes)
        BlockedProduct.add(block, rows: count, depth: width, solutions[index], columns: classes, to: &fitted)
        let leverages = Self.quadraticForms(factors[index], turned, rows: count, width: width)
        for row in 0..<count {
          let left = max(1 - 1 / Double(n) - leverages[row], .ulpOfOne)
          for output in 0..<classes {
            errors[index][(first + row) * classes + output] = (targets[row * classes + output] - fitted[row * classes + output]) / left
          }
        }
      }
    }
    return errors
  }

  /// With G = (K + α)⁻¹ the error without sample i is (G·y)ᵢ / Gᵢᵢ, where the ones' direction, which the intercept takes up, is
  /// left out of G.
  private func dualErrors(_ factors: [ShiftedTridiagonal], _ alphas: [Double]) throws -> [[Double]] {
    let (classes, n) = (classCount, rowCount)
    let targets = centredTargets()
    return zip(factors, alphas).map { factor, alpha in
      var errors = solve(factor, targets)
      let diagonal = Self.quadraticForms(factor, form.q, rows: n, width: n)
      for row in 0..<n {
        let own = max(diagonal[row] - 1 / (Double(n) * (lift + alpha)), .leastNormalMagnitude)
        for output in 0..<classes { errors[row * classes + output] /= own }
      }
      return errors
    }
  }

  private static func quadraticForms(_ factor: ShiftedTridiagonal, _ vectors: [Double], rows: Int, width: Int) -> [Double] {
    var result = [Double](repeating: 0, count: rows)
    result.withUnsafeMutableBufferPointer { result in
      vectors.withUnsafeBufferPointer { vectors in
        guard let r = result.baseAddress, let v = vectors.baseAddress else { return }
        inParallel((rows + 31) / 32) { part in
          for row in part * 32..<min(rows, part * 32 + 32) { r[row] = factor.quadraticForm(v + row * width) }
        }
      }
    }
    return result
  }

  private static func forEachCentred(_ source: any FeatureSource, _ mean: [Double], _ body: (Int, Int, [Double]) throws -> Void) throws {
    let width = mean.count
    try source.forEachChunk { chunk in
      var block = [Double](repeating: 0, count: chunk.rowCount * width)
      for row in 0..<chunk.rowCount {
        for column in 0..<width { block[row * width + column] = Double(chunk.values[row * width + column]) - mean[column] }
      }
      try body(chunk.firstRow, chunk.rowCount, block)
    }
  }
}
