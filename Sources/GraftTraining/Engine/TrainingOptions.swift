import GraftDevice
import GraftGraph

/// λ/2 Σ f w² of a parameter, beside the mean of the samples' losses.
public struct Penalty: Sendable, Equatable {
  /// λ
  public var strength: Double
  /// f, one a column of the parameter `[C, D]`; `nil`: 1 for all.
  public var columnFactors: [Double]?

  public init(_ strength: Double, columnFactors: [Double]? = nil) { (self.strength, self.columnFactors) = (strength, columnFactors) }
}

/// How a network is trained by steps on batches.
public struct TrainingOptions: Sendable {
  public var method: OptimizerStep.Method
  public var learningRate: Double
  public var weightDecay: Double
  /// SGD's momentum, AdamW's β₁.
  public var momentum: Double
  public var isNesterov = false
  public var epochs: Int
  public var batchSize: Int
  /// Batches whose gradients make one step.
  public var accumulatedBatches = 1
  public var schedule: RateSchedule.Shape
  public var warmupEpochs: Double
  /// Share of a target that goes to all classes alike (Szegedy et al., 2016).
  public var labelSmoothing: Double
  /// The most the norm of a step's gradient may be; 0: no limit.
  public var gradientNormLimit: Double
  /// What each block's learning rate is of that of the block after it; 1: all alike.
  public var layerDecay: Double
  /// Decay of the running average of the parameters; 0: none is kept.
  public var averageDecay: Double = 0
  public var normalization: NormalizationMode
  /// Epochs without a better validation loss after which training stops; 0: never.
  public var patience: Int
  public var precision: ComputeFormat
  public var seed: UInt64
  public var loss = Loss.crossEntropy
  /// Penalties that belong to the objective, by a trained parameter's name; unlike weight decay they are part of the gradient.
  public var penalties: [String: Penalty] = [:]
  /// What a sample of each class counts, `[C]`, not negative and not all 0; `nil`: all alike.
  public var classWeights: [Double]?
  /// How pictures of a batch are mixed with each other.
  public var mixing = Mixing()
  public var planOptions = PlanOptions()

  public init(
    method: OptimizerStep.Method = .adamW, learningRate: Double = 1e-4, weightDecay: Double = 0.01, momentum: Double = 0.9, epochs: Int = 10,
    batchSize: Int = 32, schedule: RateSchedule.Shape = .cosine, warmupEpochs: Double = 0.5, labelSmoothing: Double = 0,
    gradientNormLimit: Double = 0, layerDecay: Double = 1, normalization: NormalizationMode = .frozen, patience: Int = 0,
    precision: ComputeFormat = .float32, seed: UInt64 = 0
  ) {
    (self.method, self.learningRate, self.weightDecay, self.momentum) = (method, learningRate, weightDecay, momentum)
    (self.epochs, self.batchSize, self.schedule, self.warmupEpochs) = (epochs, batchSize, schedule, warmupEpochs)
    (self.labelSmoothing, self.gradientNormLimit, self.layerDecay) = (labelSmoothing, gradientNormLimit, layerDecay)
    (self.normalization, self.patience, self.precision, self.seed) = (normalization, patience, precision, seed)
  }

  /// Whether a run with these options is possible at all; `TrainingProgram` looks too.
  public func validate() throws(TrainingOptionError) {
    func check(_ holds: Bool, _ message: @autoclosure () -> String) throws(TrainingOptionError) {
      if !holds { throw TrainingOptionError(message: message()) }
    }
    try check(learningRate > 0 && learningRate.isFinite, "the learning rate is \(learningRate); it must be positive, and 1e-4 is a fair first guess")
    try check(weightDecay >= 0 && weightDecay.isFinite, "the weight decay is \(weightDecay); it can't be negative")
    try check((0..<1).contains(momentum), "the momentum is \(momentum); it must lie between 0 and 1")
    try check(epochs >= 1 && epochs <= 1_000_000, "\(epochs) epochs were asked for; 1 to 1000000 can be had")
    try check(
      warmupEpochs >= 0 && warmupEpochs <= Double(epochs),
      "the warm-up is \(warmupEpochs) epochs; it must be at least 0 and at most the \(epochs) epochs of the training")
    try check((1...65536).contains(batchSize), "the batch size is \(batchSize); it must lie between 1 and 65536")
    try check((1...65536).contains(accumulatedBatches), "\(accumulatedBatches) batches a step were asked for; 1 to 65536 can be had")
    try check((0..<1).contains(labelSmoothing), "the label smoothing is \(labelSmoothing); it must be at least 0 and below 1")
    try check(layerDecay > 0 && layerDecay <= 1, "the layer decay is \(layerDecay); it must be above 0 and at most 1")
    try check(gradientNormLimit >= 0, "the limit of the gradient's norm is \(gradientNormLimit); it can't be negative")
    try check(
      [mixing.mixup, mixing.cutmix].allSatisfy { (0...1000).contains($0) },
      "mixup and cutmix have strengths of \(mixing.mixup) and \(mixing.cutmix); 0 (none) to 1000 are allowed, and 0.2 to 1 are usual")
    try check((0..<1).contains(averageDecay), "the decay of the average is \(averageDecay); it must be at least 0 and below 1")
  }

  /// What makes every class count alike, as scikit-learn's "balanced": N / (C · samples of the class); a class without samples counts 0.
  public static func balancedWeights(labels: [Int], classes: Int) -> [Double] {
    var counts = [Int](repeating: 0, count: classes)
    for label in labels where counts.indices.contains(label) { counts[label] += 1 }
    return counts.map { $0 == 0 ? 0 : Double(labels.count) / (Double(classes) * Double($0)) }
  }
}
