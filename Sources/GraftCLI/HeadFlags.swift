import ArgumentParser
import Graft

/// Which head is trained, and how: the same for every command that trains heads on a store's features.
struct HeadFlags: ParsableArguments {
  @Option(help: ArgumentHelp("linear, ridge, knn, centroid or mlp.", valueName: "kind")) var head = HeadMetadata.Kind.linear
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("linear: λ, or several separated by commas to choose from (default: 1e-6 to 1e2 by decades).", valueName: "strength"))
  var l2: String?
  @Option(
    parsing: .unconditional, help: ArgumentHelp("ridge: α, or several to choose from (default: 1e-3 to 1e6 by decades).", valueName: "strength"))
  var alpha: String?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("knn: neighbours that vote, or several numbers to choose from (default: 1,3,5,10,20).", valueName: "count")) var k: String?
  @Option(help: ArgumentHelp("knn: cosine or euclidean (default: cosine).", valueName: "kind")) var distance: NeighbourDistance?
  @Option(help: ArgumentHelp("knn: votes count exp(-distance/number); without it all count alike.", valueName: "number")) var voteTemperature: Double?
  @Option(help: ArgumentHelp("knn: number format of the features in the head: float32 or float16.", valueName: "format")) var featureType = "float32"
  @Option(help: ArgumentHelp("mlp: units of the hidden layers (default: 512).", valueName: "counts")) var hidden: String?
  @Option(help: ArgumentHelp("mlp: share of the hidden units that a step leaves out (default: 0.2).", valueName: "share")) var dropout: Double?
  @Option(
    help: ArgumentHelp(
      "mlp, and linear for numbers: cross-entropy, sigmoid, squared or huber (default: cross-entropy for classes, sigmoid for labels, squared for numbers).",
      valueName: "kind"))
  var loss: String?
  @Option(help: ArgumentHelp("mlp: the most passes over the training data (default: 100).", valueName: "count")) var epochs: Int?
  @Option(help: ArgumentHelp("mlp: the highest learning rate (default: 1e-3).", valueName: "rate")) var learningRate: Double?
  @Option(help: ArgumentHelp("mlp: weight decay (default: 0.01).", valueName: "number")) var weightDecay: Double?
  @Option(help: ArgumentHelp("mlp: samples a step (default: 128).", valueName: "count")) var batchSize: Int?
  @Option(help: ArgumentHelp("mlp: stop after this many epochs without a lower validation loss (default: 10).", valueName: "count")) var patience:
    Int?
  @Option(help: ArgumentHelp("What is done to each row of features: none, l2 or standardise.", valueName: "kind")) var normalise =
    FeatureNormalisation.none
  @Option(help: ArgumentHelp("linear, mlp: what samples count: none (all alike) or balanced (every class alike).", valueName: "kind"))
  var classWeight = "none"
  @Option(help: ArgumentHelp("linear, mlp: share of each target that goes to all classes alike.", valueName: "share")) var labelSmoothing = 0.0
  @Option(help: ArgumentHelp("linear: stop when no entry of the gradient is larger.", valueName: "number")) var tolerance: Double?
  @Option(help: ArgumentHelp("linear: the most iterations of the solver.", valueName: "count")) var maxIterations: Int?
  @Option(help: ArgumentHelp("Draws the samples that are held out, and everything random.", valueName: "number")) var seed: UInt64 = 0

  private static func numbers(_ text: String?, _ option: String) throws -> [Double]? {
    guard let text else { return nil }
    let values = text.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
    guard values.allSatisfy({ $0.map { $0 >= 0 && $0.isFinite } ?? false }) else {
      throw ValidationError("\(option) takes a number that is not negative, or several separated by commas, not '\(text)'.")
    }
    return values.compactMap(\.self)
  }

  private static func counts(_ text: String?, _ option: String) throws -> [Int]? {
    guard let text else { return nil }
    let values = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    guard values.allSatisfy({ ($0 ?? 0) >= 1 }) else {
      throw ValidationError("\(option) takes a positive number, or several separated by commas, not '\(text)'.")
    }
    return values.compactMap(\.self)
  }

  private static let losses: [(name: String, loss: Loss)] = [
    ("cross-entropy", .crossEntropy), ("sigmoid", .binaryCrossEntropy), ("squared", .squared), ("huber", .huber(1)),
  ]

  /// The loss of that name, or the one that is usual for the task.
  ///
  /// - Throws: `ValidationError` for a loss of another task.
  static func loss(_ name: String?, for task: LabelTask) throws -> Loss {
    let fitting: [String] =
      switch task {
      case .classification: ["cross-entropy"]
      case .multilabel: ["sigmoid"]
      case .regression: ["squared", "huber"]
      }
    let wanted = name ?? fitting[0]
    guard fitting.contains(wanted), let loss = losses.first(where: { $0.name == wanted })?.loss else {
      throw ValidationError("--loss \(wanted) is not for \(task.rawValue), which takes \(fitting.joined(separator: " or ")).")
    }
    return loss
  }

  func validate() throws {
    _ = try (Self.numbers(l2, "--l2"), Self.numbers(alpha, "--alpha"), Self.counts(k, "--k"), Self.counts(hidden, "--hidden"))
    guard ["none", "balanced"].contains(classWeight) else { throw ValidationError("--class-weight takes none or balanced, not '\(classWeight)'.") }
    guard ["float32", "float16"].contains(featureType) else {
      throw ValidationError("--feature-type takes float32 or float16, not '\(featureType)'.")
    }
    if let loss, !Self.losses.contains(where: { $0.name == loss }) {
      throw ValidationError("--loss takes \(Self.losses.map(\.name).joined(separator: ", ")), not '\(loss)'.")
    }
    if let tolerance, !(tolerance > 0 && tolerance.isFinite) { throw ValidationError("--tolerance takes a positive number, not \(tolerance).") }
    if let maxIterations, maxIterations < 1 { throw ValidationError("--max-iterations takes a positive number, not \(maxIterations).") }
    guard (0..<1).contains(labelSmoothing) else {
      throw ValidationError("--label-smoothing takes a number from 0 to below 1, not \(labelSmoothing).")
    }
    if let dropout, !(0..<1).contains(dropout) { throw ValidationError("--dropout takes a number from 0 to below 1, not \(dropout).") }
    // An option that the head has no use for is a misunderstanding.
    let given: [(String, Bool, Set<HeadMetadata.Kind>)] = [
      ("--l2", l2 != nil, [.linear]), ("--tolerance", tolerance != nil, [.linear]), ("--max-iterations", maxIterations != nil, [.linear]),
      ("--alpha", alpha != nil, [.ridge]), ("--k", k != nil, [.knn]), ("--distance", distance != nil, [.knn]),
      ("--dropout", dropout != nil, [.mlp]), ("--vote-temperature", voteTemperature != nil, [.knn]),
      ("--feature-type", featureType != "float32", [.knn]), ("--hidden", hidden != nil, [.mlp]), ("--epochs", epochs != nil, [.mlp]),
      ("--learning-rate", learningRate != nil, [.mlp]), ("--weight-decay", weightDecay != nil, [.mlp]), ("--batch-size", batchSize != nil, [.mlp]),
      ("--patience", patience != nil, [.mlp]), ("--loss", loss != nil, [.mlp, .linear]),
      ("--class-weight", classWeight != "none", [.linear, .mlp]), ("--label-smoothing", labelSmoothing > 0, [.linear, .mlp]),
    ]
    for (option, isGiven, kinds) in given where isGiven && !kinds.contains(head) {
      throw ValidationError("\(option) is for --head \(kinds.map(\.rawValue).sorted().joined(separator: " and ")), not \(head.rawValue).")
    }
  }

  /// Makes sure, before anything is computed, that the head and its options are for a task.
  ///
  /// - Throws: `ValidationError`.
  func check(for task: LabelTask) throws {
    guard task != .classification else {
      guard head != .linear || loss == nil || loss == "cross-entropy" else {
        throw ValidationError("a linear head for classes is fitted to cross-entropy. Leave --loss out, or train with --head mlp.")
      }
      return
    }
    guard classWeight == "none", labelSmoothing == 0 else {
      throw ValidationError("--class-weight and --label-smoothing are for samples of one class each, and the store is one for \(task.rawValue).")
    }
    _ = try Self.loss(loss, for: task)
    if head == .centroid || (head == .ridge && task != .regression) { throw refusal(task) }
  }

  private func refusal(_ task: LabelTask) -> ValidationError {
    ValidationError(
      "--head \(head.rawValue) is not for \(task.rawValue), which takes linear, \(task == .regression ? "ridge, " : "")knn or mlp.")
  }

  /// What trains such heads.
  ///
  /// - Parameters:
  ///   - seed: in place of `--seed`.
  ///   - onEpoch: gets all epochs so far, after each, of a head that is trained in epochs.
  func fitting(
    _ device: any Device, seed given: UInt64? = nil, onEpoch: @escaping ([EpochRecord]) throws -> Void = { _ in }
  ) throws -> any HeadFitting {
    try check(for: .classification)
    let backend = DeviceLinearBackend(device: device), seed = given ?? seed
    switch head {
    case .linear:
      var options = try linearOptions(seed: seed)
      (options.balancesClasses, options.labelSmoothing) = (classWeight == "balanced", labelSmoothing)
      return LinearFitting(options: options, backend: backend)
    case .ridge:
      return try RidgeFitting(
        strengths: Self.numbers(alpha, "--alpha") ?? RidgeFitting.defaultStrengths, featureNormalisation: normalise, backend: backend)
    case .knn:
      return try NeighbourFitting(
        neighbours: Self.counts(k, "--k") ?? [1, 3, 5, 10, 20], distance: distance ?? .cosine, voteTemperature: voteTemperature,
        featureNormalisation: normalise, storesFloat16: featureType == "float16", backend: backend)
    case .centroid: return CentroidFitting(featureNormalisation: normalise, seed: seed, backend: backend)
    case .mlp:
      var options = try perceptronOptions(seed: seed)
      options.training.labelSmoothing = labelSmoothing
      options.training.loss = Self.losses.first { $0.name == loss }?.loss ?? .crossEntropy
      options.balancesClasses = classWeight == "balanced"
      return PerceptronFitting(options: options, device: device, onEpoch: onEpoch)
    }
  }

  /// What trains the head for labels or numbers.
  ///
  /// - Throws: `ValidationError` for a head, a loss or an option that is not for the task.
  func targetFitting(
    _ task: LabelTask, _ device: any Device, onEpoch: @escaping ([EpochRecord]) throws -> Void = { _ in }
  ) throws -> any TargetHeadFitting {
    try check(for: task)
    let backend = DeviceLinearBackend(device: device)
    let loss = try Self.loss(loss, for: task)
    switch head {
    case .linear: return try TargetLinearFitting(loss: loss, options: try linearOptions(seed: seed), backend: backend)
    case .mlp:
      var options = try perceptronOptions(seed: seed)
      options.training.loss = loss
      return TargetPerceptronFitting(options: options, device: device, onEpoch: onEpoch)
    case .knn:
      return try TargetNeighbourFitting(
        neighbours: Self.counts(k, "--k") ?? [1, 3, 5, 10, 20], distance: distance ?? .cosine, voteTemperature: voteTemperature,
        featureNormalisation: normalise, storesFloat16: featureType == "float16", backend: backend)
    case .ridge:
      return try TargetRidgeFitting(
        strengths: Self.numbers(alpha, "--alpha") ?? RidgeFitting.defaultStrengths, featureNormalisation: normalise, backend: backend)
    case .centroid: throw refusal(task)
    }
  }

  /// Says that the solver stopped short.
  func warn(ofLimit status: String?, _ iterations: Int?, _ console: Console) {
    guard let iterations, status == SolverStatus.iterationLimit.rawValue else { return }
    console.warn(
      "the solver stopped at its limit of \(iterations) iteration\(iterations == 1 ? "" : "s") before the head was the best there is. "
        + "Raise --max-iterations, or train with --normalise standardise.")
  }

  private func linearOptions(seed: UInt64) throws -> LinearTrainingOptions {
    var options = LinearTrainingOptions(featureNormalisation: normalise, seed: seed)
    if let values = try Self.numbers(l2, "--l2") { options.l2 = values.count == 1 ? .fixed(values[0]) : .sweep(values) }
    if let tolerance {
      options.solver.gradientTolerance = tolerance
      options.solver.relativeGap = .infinity
    }
    if let maxIterations { options.solver.maximumIterations = maxIterations }
    return options
  }

  private func perceptronOptions(seed: UInt64) throws -> PerceptronOptions {
    var options = PerceptronOptions(hidden: try Self.counts(hidden, "--hidden") ?? [512], dropout: dropout ?? 0.2, featureNormalisation: normalise)
    options.training.seed = seed
    if let epochs { options.training.epochs = epochs }
    if let learningRate { options.training.learningRate = learningRate }
    if let weightDecay { options.training.weightDecay = weightDecay }
    if let batchSize { options.training.batchSize = batchSize }
    if let patience { options.training.patience = patience }
    return options
  }
}

extension HeadMetadata.Kind: ExpressibleByArgument {}
extension NeighbourDistance: ExpressibleByArgument {}
extension FeatureNormalisation: ExpressibleByArgument {}
