import Foundation
import GraftGraph

/// How far two rows of features are from each other.
public enum NeighbourDistance: String, Sendable, Codable, CaseIterable {
  /// ‖x − y‖
  case euclidean
  /// 1 − x·y / (‖x‖·‖y‖), a row of zeros being at a distance of 1 from all.
  case cosine
}

/// How neighbours vote.
public struct NeighbourVoting: Sendable, Equatable {
  /// k
  public var neighbours: Int
  public var distance: NeighbourDistance
  /// A vote counts exp(−distance/τ); `nil`: all alike.
  public var voteTemperature: Double?

  public init(neighbours: Int, distance: NeighbourDistance = .euclidean, voteTemperature: Double? = nil) {
    (self.neighbours, self.distance, self.voteTemperature) = (neighbours, distance, voteTemperature)
  }
}

/// The classes, labels or numbers of the nearest training samples, which its file holds: `features` `[N, D]`, `labels` `[N]` or
/// `targets` `[N, T]`, and, where features are standardised, `mean` and `inverse_deviation` `[D]`.
///
/// Of classes logits are the logarithms of the classes' shares of the votes, at least `smallestShare`, so that their softmax is scikit-learn's
/// `predict_proba` of KNeighborsClassifier. Of equal distances the sample that comes first counts, of equal shares the class that
/// comes first. Of labels logits are those of each label's share, as KNeighborsClassifier's for many labels; numbers are means over the
/// neighbours, as KNeighborsRegressor's.
public struct NeighbourHead: FeatureClassifier {
  /// What stands for a share of 0, whose logarithm is no number.
  public static let smallestShare = 1e-9

  public let metadata: HeadMetadata
  public let voting: NeighbourVoting
  /// `[N]`; empty where there are `targets`.
  public let labels: [Int]
  /// `[N, T]`, of heads for labels or numbers.
  let targets: [Float]
  let storesFloat16: Bool
  private let search: NeighbourSearch
  /// For standardised features.
  private let mean, inverseDeviation: [Double]

  public var dimension: Int { search.dimension }
  /// N
  public var sampleCount: Int { search.rowCount }

  /// - Parameters:
  ///   - features: `[N, D]`, normalised.
  ///   - mean: `[D]` with `.standardise`, else empty; like `inverseDeviation`.
  /// - Throws: `HeadError` if shapes, classes and metadata don't belong together or a number isn't finite.
  init(
    features: [Float], labels: [Int], targets: [Float] = [], dimension: Int, voting: NeighbourVoting, mean: [Double] = [],
    inverseDeviation: [Double] = [],
    storesFloat16: Bool = false, metadata: HeadMetadata, file: String? = nil
  ) throws(HeadError) {
    let name = file ?? "a new head"
    func check(_ holds: Bool, _ problem: @autoclosure () -> String) throws(HeadError) {
      if !holds { throw HeadError(file: name, problem: problem()) }
    }
    try metadata.validate(file: name)
    let hasClasses = metadata.task == .classification
    try check(hasClasses ? targets.isEmpty : labels.isEmpty && targets.count % metadata.classes.count == 0, "its targets are not for its task")
    let count = hasClasses ? labels.count : targets.count / metadata.classes.count
    let (needed, overflow) = count.multipliedReportingOverflow(by: dimension)
    try check(dimension > 0 && !overflow && needed == features.count, "its \(features.count) features are not those of \(count) samples")
    try check(count > 0, "it holds no samples")
    try check(targets.allSatisfy(\.isFinite), "its targets contain NaN or infinity")
    try check(metadata.task != .multilabel || targets.allSatisfy { $0 == 0 || $0 == 1 }, "its samples' labels are not all 0 or 1")
    try check(labels.allSatisfy(metadata.classes.indices.contains), "a sample's label is no class's")
    try check(features.allSatisfy(\.isFinite), "its features contain NaN or infinity")
    let moments = metadata.featureNormalisation == .standardise ? dimension : 0
    try check(mean.count == moments && inverseDeviation.count == moments, "its means and deviations don't fit \(dimension) features")
    try check((mean + inverseDeviation).allSatisfy(\.isFinite), "its means or deviations contain NaN or infinity")
    try check(voting.neighbours >= 1, "it asks \(voting.neighbours) neighbours")
    try check(voting.voteTemperature.map { $0 > 0 && $0.isFinite } ?? true, "its votes have the temperature \(voting.voteTemperature ?? 0)")
    (self.metadata, self.voting, self.labels, self.targets, self.storesFloat16) = (metadata, voting, labels, targets, storesFloat16)
    (self.mean, self.inverseDeviation) = (mean, inverseDeviation)
    search = NeighbourSearch(features, rowCount: count, dimension: dimension, distance: voting.distance)
  }

  private var transform: FeatureTransform {
    switch metadata.featureNormalisation {
    case .none: .none
    case .l2: .l2
    case .standardise: .standardise(mean: mean, inverseDeviation: inverseDeviation)
    }
  }

  public func forEachLogits(
    of features: any FeatureSource, file: String, backend: any LinearBackend, _ body: (_ firstRow: Int, _ logits: [Float]) throws -> Void
  ) throws {
    try check(dimension: features.dimension, file: file)
    try NormalisedFeatures(base: features, transform: transform).forEachChunk { chunk in
      var logits: [Float] = []
      logits.reserveCapacity(chunk.rowCount * classCount)
      try search.forEachNeighbours(of: chunk, count: voting.neighbours, backend: backend) { _, found in logits += self.logits(found) }
      try body(chunk.firstRow, logits)
    }
  }

  /// What each stored sample's neighbours but itself say, for several numbers of neighbours: `[k][N, C]`.
  func leaveOneOut(neighbours counts: [Int], backend: any LinearBackend) throws -> [[Float]] {
    var results = counts.map { _ in [Float]() }
    guard let most = counts.max() else { return results }
    try search.forEachRow { chunk in
      try search.forEachNeighbours(of: chunk, count: most + 1, backend: backend) { row, found in
        let others = found.filter { $0.row != row }
        for (index, count) in counts.enumerated() { results[index] += logits(others.prefix(count)) }
      }
    }
    return results
  }

  /// What different numbers of neighbours say about samples, from one search: `[k][rows, C]`.
  func logits(of features: any FeatureSource, neighbours counts: [Int], backend: any LinearBackend) throws -> [[Float]] {
    var results = counts.map { _ in [Float]() }
    guard let most = counts.max() else { return results }
    try NormalisedFeatures(base: features, transform: transform).forEachChunk { chunk in
      try search.forEachNeighbours(of: chunk, count: most, backend: backend) { _, found in
        for (index, count) in counts.enumerated() { results[index] += logits(found.prefix(count)) }
      }
    }
    return results
  }

  /// log of each class's share of the votes; of labels the logit of each one's share; of numbers their means; `[C]`.
  func logits(_ found: some Collection<NeighbourSearch.Neighbour>) -> [Float] {
    var votes = [Double](repeating: 0, count: classCount)
    // Relative to the nearest, so that not all votes vanish.
    let nearest = found.first?.distance ?? 0
    guard metadata.task == .classification else { return outputs(found, nearest: nearest) }
    for neighbour in found {
      votes[labels[neighbour.row]] += voting.voteTemperature.map { exp((nearest - neighbour.distance) / $0) } ?? 1
    }
    let total = votes.reduce(0, +)
    return votes.map { Float(log(max($0 / max(total, .leastNormalMagnitude), Self.smallestShare))) }
  }

  private func outputs(_ found: some Collection<NeighbourSearch.Neighbour>, nearest: Double) -> [Float] {
    var (sums, total) = ([Double](repeating: 0, count: classCount), 0.0)
    for neighbour in found {
      let count = voting.voteTemperature.map { exp((nearest - neighbour.distance) / $0) } ?? 1
      total += count
      for output in sums.indices { sums[output] += count * Double(targets[neighbour.row * classCount + output]) }
    }
    let means = sums.map { $0 / max(total, .leastNormalMagnitude) }
    guard metadata.task == .multilabel else { return means.map(Float.init) }
    return means.map { share in
      let share = min(max(share, Self.smallestShare), 1 - Self.smallestShare)
      return Float(log(share / (1 - share)))
    }
  }

  public func replacing(metadata: HeadMetadata) throws(HeadError) -> NeighbourHead {
    try NeighbourHead(
      features: search.rows, labels: labels, targets: targets, dimension: dimension, voting: voting, mean: mean, inverseDeviation: inverseDeviation,
      storesFloat16: storesFloat16, metadata: metadata)
  }

  func replacing(voting: NeighbourVoting, metadata: HeadMetadata) throws(HeadError) -> NeighbourHead {
    try NeighbourHead(
      features: search.rows, labels: labels, targets: targets, dimension: dimension, voting: voting, mean: mean, inverseDeviation: inverseDeviation,
      storesFloat16: storesFloat16, metadata: metadata)
  }

  // MARK: The file

  private enum Entry {
    static let neighbours = "neighbours", distance = "distance", voteTemperature = "vote_temperature"
  }

  public func encoded() throws(HeadError) -> (tensors: [(String, HostTensor)], metadata: [String: String]) {
    let whole = HostTensor([sampleCount, dimension], search.rows)
    let known =
      metadata.task == .classification
      ? ("labels", HostTensor([sampleCount], integers: labels.map(Int64.init))) : ("targets", HostTensor([sampleCount, classCount], targets))
    var tensors = [("features", storesFloat16 ? whole.float16() : whole), known]
    if !mean.isEmpty {
      tensors += [
        ("mean", HostTensor([dimension], mean.map(Float.init))), ("inverse_deviation", HostTensor([dimension], inverseDeviation.map(Float.init))),
      ]
    }
    var strings = try metadata.encoded()
    strings[Entry.neighbours] = "\(voting.neighbours)"
    strings[Entry.distance] = voting.distance.rawValue
    strings[Entry.voteTemperature] = voting.voteTemperature.map { "\($0)" }
    return (tensors, strings)
  }

  /// Reads a head from what a `.safetensors` file holds.
  ///
  /// - Throws: `HeadError` that says what is missing or damaged.
  public init(tensors: [String: HostTensor], metadata strings: [String: String], file: String) throws(HeadError) {
    let metadata = try HeadMetadata(decoding: strings, file: file)
    func damaged(_ problem: String) -> HeadError { HeadError(file: file, problem: problem) }
    guard metadata.kind == .knn else { throw damaged("it is a head of the kind \(metadata.kind.rawValue), not knn") }
    guard let features = tensors["features"], features.elementType.isFloatingPoint, features.shape.count == 2 else {
      throw damaged("it has no tensor features of shape [samples, features]")
    }
    var (labels, targets): ([Int], [Float]) = ([], [])
    if metadata.task == .classification {
      guard let tensor = tensors["labels"], tensor.elementType == .int64, tensor.shape == [features.shape[0]] else {
        throw damaged("it has no tensor labels with a number for each sample")
      }
      labels = tensor.withUnsafeBytes { $0.bindMemory(to: Int64.self).map { Int(truncatingIfNeeded: $0) } }
    } else {
      guard let tensor = tensors["targets"], tensor.elementType.isFloatingPoint, tensor.shape == [features.shape[0], metadata.classes.count] else {
        throw damaged("it has no tensor targets with \(metadata.classes.count) numbers for each sample")
      }
      targets = tensor.floats()
    }
    guard let neighbours = strings[Entry.neighbours].flatMap(Int.init) else { throw damaged("the header does not say how many neighbours vote") }
    guard let distance = strings[Entry.distance].flatMap(NeighbourDistance.init) else {
      throw damaged("the header's entry distance is \(strings[Entry.distance] ?? "missing"), which this Graft doesn't know")
    }
    var voteTemperature: Double?
    if let text = strings[Entry.voteTemperature] {
      guard let value = Double(text) else { throw damaged("the header's entry vote_temperature is not a number") }
      voteTemperature = value
    }
    func moments(_ name: String) throws(HeadError) -> [Double] {
      guard let tensor = tensors[name] else { return [] }
      guard tensor.elementType.isFloatingPoint else { throw damaged("its tensor \(name) holds no floating-point numbers") }
      return tensor.floats().map(Double.init)
    }
    try self.init(
      features: features.floats(), labels: labels, targets: targets, dimension: features.shape[1],
      voting: NeighbourVoting(neighbours: neighbours, distance: distance, voteTemperature: voteTemperature),
      mean: try moments("mean"), inverseDeviation: try moments("inverse_deviation"), storesFloat16: features.elementType == .float16,
      metadata: metadata, file: file)
  }
}
