import GraftData

/// How strongly weights are penalised: λ in mean cross-entropy + λ/2·‖W‖².
///
/// On N samples λ = 1/(C·N) of scikit-learn's LogisticRegression. With two classes that fits the difference of the two rows
/// of W alone, whose penalty is half as large here: λ = 2/(C·N).
public enum L2Strength: Sendable, Equatable {
  /// This λ.
  case fixed(Double)
  /// The λ of these that does best on validation data.
  case sweep([Double])

  /// A decade apart from 1e-6 to 1e2. On N samples λ is 1/(C·N) of scikit-learn, so that for a thousand samples the grid
  /// covers its C from 1e-5 to 1e3.
  public static let defaultSweep = L2Strength.sweep((-6...2).map { powerOfTen($0) })

  private static func powerOfTen(_ exponent: Int) -> Double {
    var power = 1.0
    for _ in 0..<abs(exponent) { power *= 10 }
    return exponent < 0 ? 1 / power : power
  }
}

/// How a linear head is trained.
public struct LinearTrainingOptions: Sendable {
  public var l2: L2Strength
  public var featureNormalisation: FeatureNormalisation
  /// The share of the training samples that chooses λ when there is no validation split.
  public var holdoutFraction: Double
  public var seed: UInt64
  /// Whether every class counts alike, however many samples it has: scikit-learn's `class_weight="balanced"`.
  public var balancesClasses = false
  /// Share of each target that goes to all classes alike.
  public var labelSmoothing = 0.0
  /// Tolerances of the head that is kept.
  public var solver: LBFGSOptions
  /// What the solver may keep in memory for the heads that train together; a sweep that needs more goes in groups.
  public var solverByteLimit: Int

  public init(
    l2: L2Strength = .defaultSweep, featureNormalisation: FeatureNormalisation = .none, holdoutFraction: Double = 0.2, seed: UInt64 = 0,
    solver: LBFGSOptions = LBFGSOptions(relativeGap: 5e-9, lossPrecision: 1e-7), solverByteLimit: Int = 1 << 30
  ) {
    self.l2 = l2
    self.featureNormalisation = featureNormalisation
    self.holdoutFraction = holdoutFraction
    self.seed = seed
    self.solver = solver
    self.solverByteLimit = solverByteLimit
  }

  func validate() throws(TrainingOptionError) {
    try solver.validate()
    let strengths: [Double]
    switch l2 {
    case .fixed(let value): strengths = [value]
    case .sweep(let values): strengths = values
    }
    guard !strengths.isEmpty else { throw TrainingOptionError(message: "a sweep needs at least one λ") }
    for value in strengths where !(value >= 0 && value <= 1e12) {
      throw TrainingOptionError(message: "λ is \(value); it must be a number from 0 to 1e12, and 1e-3 is a fair first guess")
    }
    guard (0..<1).contains(labelSmoothing) else {
      throw TrainingOptionError(message: "the label smoothing is \(labelSmoothing); it must be at least 0 and below 1")
    }
    guard holdoutFraction > 0, holdoutFraction < 1 else {
      throw TrainingOptionError(message: "the share of samples held out is \(holdoutFraction); it must lie between 0 and 1, such as 0.2")
    }
  }
}

/// What a head is trained and chosen on. There is no place for a test split here, by intent.
public struct LinearTrainingData {
  public let train: LabelledFeatures
  /// The data set's own validation split, where it has one.
  public let validation: LabelledFeatures?
  /// Names of the classes; labels are indices of it.
  public let classes: [String]

  public init(train: LabelledFeatures, validation: LabelledFeatures? = nil, classes: [String]) {
    (self.train, self.validation, self.classes) = (train, validation, classes)
  }
}

/// How far training is.
public struct LinearTrainingProgress: Sendable {
  public enum Stage: String, Sendable {
    case sweep
    case fit
  }
  public let stage: Stage
  public let solver: SolverProgress
}

extension LinearTrainingData {
  func check() throws(TrainingDataError) {
    guard classes.count >= 2 else {
      throw TrainingDataError(
        message: "there is \(classes.isEmpty ? "no class" : "a single class, \(classes[0])"): a classifier needs two or more. Add a folder a class.")
    }
    if let (first, second) = Spelling.twins(in: classes) {
      throw TrainingDataError(message: "the classes \(Spelling.text(first, second)). Label the samples alike, and extract or import them again.")
    }
    if let twice = Dictionary(grouping: classes, by: { $0 }).filter({ $0.value.count > 1 }).keys.min() {
      throw TrainingDataError(message: "two classes are called \(twice). Give each a name of its own.")
    }
    guard train.features.dimension > 0 else { throw TrainingDataError(message: "the samples have no features") }
    let counts = try train.classCounts(classCount: classes.count)
    let missing = zip(classes, counts).filter { $0.1 == 0 }.map(\.0)
    guard missing.isEmpty else {
      let names = missing.prefix(5).joined(separator: ", ") + (missing.count > 5 ? " and \(missing.count - 5) more" : "")
      throw TrainingDataError(message: "no training sample shows \(names). Add samples to the train split, or remove the class.")
    }
    guard let validation else { return }
    guard validation.features.dimension == train.features.dimension else {
      throw TrainingDataError(
        message: "validation samples have \(validation.features.dimension) features and training samples \(train.features.dimension)")
    }
    guard validation.rowCount > 0 else {
      throw TrainingDataError(message: "the validation split is empty; leave it away, and training samples are held out instead")
    }
    _ = try validation.classCounts(classCount: classes.count)
  }
}
