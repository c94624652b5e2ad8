import GraftDevice
import GraftGraph

/// The graph of a training step: forward, backward, the norm of the gradient, and the optimiser's step on each parameter in place.
struct TrainingStep {
  let graph: Graph
  /// The network with its parameters and statistics as variables, and its normalisations as they were.
  let promoted: Graph
  /// The first nodes of `graph`: the network and its loss.
  let forwardCount: Int
  /// Names of the values between the network's blocks.
  let blockNames: [String]
  let input, targets, weights, rates, gathering, averaging: ValueID
  let classCount: Int
  /// What makes the network: every chosen parameter, and the statistics of normalisations that follow the batches.
  let stored: [GraphParameter]
  /// The parameters that the loss depends on.
  let trained: [GraphParameter]
  /// Names of those of which a running average is kept.
  let averaged: Set<String>

  static let averageSuffix = "#average"
  private static let sumSuffix = "#sum"
  private static let stateSuffixes = ["#first", "#second"]

  /// - Throws: `TrainingOptionError`, `GradientError` for an operation without a gradient rule, `ShapeError`.
  init(_ network: TrainableNetwork, options: TrainingOptions) throws {
    let prepared = try network.makeGraph(options.batchSize).preparedForTraining()
    let learned = prepared.parameters().filter { network.isTrained($0.name) }
    guard !learned.isEmpty else { throw TrainingOptionError(message: "there is nothing to train: no parameter after the cut was chosen") }
    for (name, penalty) in options.penalties.sorted(by: { $0.key < $1.key }) {
      guard let parameter = learned.first(where: { $0.name == name }) else {
        throw TrainingOptionError(
          message: "a penalty is for '\(name)', which is no parameter that is trained; the last ones are "
            + learned.suffix(4).map { "'\($0.name)'" }.joined(separator: ", "))
      }
      let columns = parameter.tensor.shape.last ?? 1, factors = penalty.columnFactors
      guard penalty.strength >= 0, penalty.strength.isFinite, factors?.allSatisfy({ $0 >= 0 && $0.isFinite }) ?? true else {
        throw TrainingOptionError(message: "the penalty of '\(name)' or one of its factors is negative or no number")
      }
      guard factors == nil || factors?.count == columns else {
        throw TrainingOptionError(message: "the penalty of '\(name)' has \(factors?.count ?? 0) factors for \(columns) columns")
      }
    }
    // Blocks after each parameter's own: 0 for the head.
    let blocks = prepared.blockCuts(before: prepared.outputs[0])
    let ends = blocks.compactMap { cut in prepared.nodes.firstIndex { $0.output == cut.value } }
    let depths = learned.map { parameter in ends.count { $0 >= parameter.firstUse } }
    let statistics = options.normalization == .frozen ? [] : prepared.normalizationStatistics()
    (promoted, _) = try prepared.promoting(learned + statistics)
    var (graph, running) = try promoted.expandingNormalization(options.normalization)
    let values = graph.inputs.filter(graph.variables.contains)
    guard let data = graph.inputs.first, graph.inputs.count == 1 + values.count, let outputs = graph.outputs.first, graph.type(of: outputs).rank == 2
    else {
      throw ShapeError("network", "one input and one output [batch, classes] are expected")
    }
    let variables = Array(values.prefix(learned.count))
    classCount = graph.type(of: outputs).shape[1]
    guard classCount > 0 else { throw ShapeError("network", "its output has no classes: \(graph.type(of: outputs))") }
    if let weights = options.classWeights {
      guard weights.count == classCount, weights.allSatisfy({ $0 >= 0 && $0.isFinite }), weights.contains(where: { $0 > 0 }) else {
        throw TrainingOptionError(
          message: "the class weights are \(weights.count) for \(classCount) classes; as many are needed, none negative and not all 0")
      }
    }

    targets = graph.addInput(graph.type(of: outputs), name: "targets")
    weights = graph.addInput(TensorType([options.batchSize]), name: "sample weights")
    rates = graph.addInput(OptimizerRates.type, name: "rates")
    gathering = graph.addInput(TensorType([2]), name: "gathering")
    averaging = graph.addInput(TensorType([2]), name: "averaging")
    let rows = try options.loss.add(to: &graph, outputs: outputs, targets: targets)
    forwardCount = graph.nodes.count
    let found = try graph.addGradients(of: rows, seed: weights, withRespectTo: variables)
    var gradients: [(parameter: Int, value: ValueID)] = []
    for (index, gradient) in found.enumerated() {
      guard var gradient else { continue }
      if let given = options.penalties[learned[index].name], given.strength > 0 {
        // λ f w, times what the samples of the batch count together, which is the scale of the loss.
        let total = try graph.add(Reduce(.sum, axes: [0], keepsDimensions: true), [weights], name: "penalty")
        let factors = (given.columnFactors ?? [1]).map { Float(given.strength * $0) }
        let factor = graph.addConstant(HostTensor([factors.count], factors))
        let scale = try graph.add(Binary(.multiply), [total, factor], name: "penalty")
        let penalty = try graph.add(Binary(.multiply), [variables[index], scale], name: "penalty")
        gradient = try graph.add(Binary(.add), [gradient, penalty], name: "penalty")
      }
      if options.accumulatedBatches > 1 {
        let sum = graph.addVariable(graph.type(of: variables[index]), name: learned[index].name + Self.sumSuffix)
        gradient = try graph.add(Blend(), [sum, gradient, gathering], name: learned[index].name)
      }
      gradients.append((index, gradient))
    }
    guard !gradients.isEmpty else { throw TrainingOptionError(message: "the loss depends on none of the chosen parameters") }
    let squares = try graph.add(SquareSum(), gradients.map(\.value), name: "gradient norm")
    var effects: [ValueID] = []
    var averaged: Set<String> = []
    for (index, gradient) in gradients {
      let parameter = learned[index]
      let operation = OptimizerStep(
        options.method, isNesterov: options.isNesterov, decays: parameter.decays,
        rateScale: Float(Self.power(options.layerDecay, depths[index])))
      let type = graph.type(of: variables[index])
      let state = (0..<options.method.stateCount).map { graph.addVariable(type, name: parameter.name + Self.stateSuffixes[$0]) }
      let updated = try graph.add(operation, [variables[index], gradient] + state + [rates, squares], name: parameter.name)
      effects.append(updated)
      if options.averageDecay > 0 {
        let average = graph.addVariable(type, name: parameter.name + Self.averageSuffix)
        effects.append(try graph.add(Blend(), [average, updated, averaging], name: parameter.name))
        averaged.insert(parameter.name)
      }
    }
    if case .batch(let momentum) = options.normalization {
      for statistic in running {
        let factors = graph.addConstant(HostTensor([2], [1 - momentum, momentum * statistic.factor]))
        effects.append(try graph.add(Blend(), [statistic.variable, statistic.value, factors], name: graph[statistic.variable].name))
      }
    }
    graph.outputs = [rows, squares, outputs] + effects
    (self.graph, self.averaged, input) = (graph, averaged, data)
    blockNames = blocks.map { prepared[$0.value].name }
    stored = learned + statistics
    trained = gradients.map { learned[$0.parameter] }
  }

  private static func power(_ base: Double, _ exponent: Int) -> Double { (0..<max(0, exponent)).reduce(1.0) { value, _ in value * base } }
}

extension TrainingOptions {
  /// Those of the forward pass.
  var formattedPlanOptions: PlanOptions {
    var options = planOptions
    options.format = precision
    return options
  }

  /// Those of the step.
  var stepPlanOptions: PlanOptions {
    var options = formattedPlanOptions
    (options.imageCount, options.hasSmallValues) = (batchSize, true)
    return options
  }
}

extension KernelTuner {
  /// Tunes the products and convolutions of a training step, forward and backward; otherwise as `tune` of a graph.
  ///
  /// - Parameter options: those the network is going to be trained with.
  /// - Throws: also `TrainingOptionError` and `GradientError`.
  public static func tune(
    _ network: TrainableNetwork, options: TrainingOptions, device: any Device, seconds: Double, isCancelled: () -> Bool = { false },
    progress: (_ shape: Int, _ of: Int, String) -> Void = { _, _, _ in }
  ) throws -> Outcome {
    try options.validate()
    return try KernelTuner(device: device, options: options.stepPlanOptions, seconds: seconds).tune(
      TrainingStep(network, options: options).graph, isCancelled: isCancelled, progress: progress)
  }
}
