import GraftDevice
import GraftGraph

/// A network that can be trained: as many graphs of it as batch sizes are wanted.
public struct TrainableNetwork: Sendable {
  /// The graph for a batch: one input, and one output [batch, C]. Everything learned is a constant.
  public let makeGraph: @Sendable (_ batchSize: Int) throws -> Graph
  /// Whether a parameter of that name is trained.
  public let isTrained: @Sendable (String) -> Bool

  public init(makeGraph: @escaping @Sendable (Int) throws -> Graph, isTrained: @escaping @Sendable (String) -> Bool = { _ in true }) {
    (self.makeGraph, self.isTrained) = (makeGraph, isTrained)
  }
}

/// A network's training step and its forward pass, both on one device and on the same parameters, which stay there.
///
/// The step is one plan: forward, backward, the norm of the gradient, and the optimiser's step on each parameter in place. What is not
/// trained is folded and packed as in a frozen network, and nothing before the first trained parameter is kept for the way back.
public final class TrainingProgram {
  public let options: TrainingOptions
  public let device: any Device
  public let classCount: Int
  /// What is trained, in the order of use.
  public let parameterNames: [String]
  /// Numbers trained.
  public let parameterCount: Int
  public var batchSize: Int { options.batchSize }
  /// Whether parts of the forward pass are computed twice, since the device's memory is too small to keep them.
  public let recomputes: Bool
  /// The device memory of the step's plan.
  public var memory: PlanMemory { step.memory }

  private let step: Plan
  private let evaluation: Plan
  /// Inputs of `step` by name: parameters, statistics, the optimiser's state.
  private let variables: [(name: String, value: ValueID)]
  private let input, targets, weights, rates, gathering, averaging: ValueID
  /// Parameters and statistics: what makes the network, as opposed to the optimiser's state.
  private let networkNames: Set<String>
  private let averagedNames: Set<String>

  /// - Throws: `PlanMemoryError`, `GradientError` for an operation without a gradient rule, `ShapeError`, `DeviceError`, `BuildError`.
  public init(_ network: TrainableNetwork, options: TrainingOptions, device: any Device) throws {
    try options.validate()
    (self.options, self.device) = (options, device)
    var planOptions = options.planOptions
    planOptions.format = options.precision

    let prepared = try network.makeGraph(options.batchSize).preparedForTraining()
    let learned = prepared.parameters().filter { network.isTrained($0.name) }
    guard !learned.isEmpty else { throw TrainingOptionError(message: "there is nothing to train: no parameter after the cut was chosen") }
    // Blocks after each parameter's own: 0 for the head.
    let blocks = prepared.blockCuts(before: prepared.outputs[0])
    let ends = blocks.compactMap { cut in prepared.nodes.firstIndex { $0.output == cut.value } }
    let depths = learned.map { parameter in ends.count { $0 >= parameter.firstUse } }
    let statistics = options.normalization == .frozen ? [] : prepared.normalizationStatistics()
    let (promoted, _) = try prepared.promoting(learned + statistics)
    var (graph, running) = try promoted.expandingNormalization(options.normalization)
    let values = graph.inputs.filter(graph.variables.contains)
    guard let data = graph.inputs.first, graph.inputs.count == 1 + values.count, let outputs = graph.outputs.first, graph.type(of: outputs).rank == 2
    else {
      throw ShapeError("network", "one input and one output [batch, classes] are expected")
    }
    let trained = Array(values.prefix(learned.count))
    classCount = graph.type(of: outputs).shape[1]

    let targets = graph.addInput(graph.type(of: outputs), name: "targets")
    let weights = graph.addInput(TensorType([options.batchSize]), name: "sample weights")
    let rates = graph.addInput(OptimizerRates.type, name: "rates")
    let gathering = graph.addInput(TensorType([2]), name: "gathering"), averaging = graph.addInput(TensorType([2]), name: "averaging")
    let rows = try options.loss.add(to: &graph, outputs: outputs, targets: targets)
    let forwardCount = graph.nodes.count
    let found = try graph.addGradients(of: rows, seed: weights, withRespectTo: trained)
    var gradients: [(parameter: Int, value: ValueID)] = []
    for (index, gradient) in found.enumerated() {
      guard var gradient else { continue }
      if let strength = options.penalties[learned[index].name], strength > 0 {
        // λ w, times what the samples of the batch count together, which is the scale of the loss.
        let total = try graph.add(Reduce(.sum, axes: [0], keepsDimensions: true), [weights], name: "penalty")
        let factor = graph.addConstant(HostTensor([1], [Float(strength)]))
        let scale = try graph.add(Binary(.multiply), [total, factor], name: "penalty")
        let penalty = try graph.add(Binary(.multiply), [trained[index], scale], name: "penalty")
        gradient = try graph.add(Binary(.add), [gradient, penalty], name: "penalty")
      }
      if options.accumulatedBatches > 1 {
        let sum = graph.addVariable(graph.type(of: trained[index]), name: learned[index].name + Self.sumSuffix)
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
      let type = graph.type(of: trained[index])
      let state = (0..<options.method.stateCount).map { graph.addVariable(type, name: parameter.name + Self.stateSuffixes[$0]) }
      let updated = try graph.add(operation, [trained[index], gradient] + state + [rates, squares], name: parameter.name)
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
    var stepOptions = planOptions
    stepOptions.imageCount = options.batchSize
    (step, recomputes) = try Self.stepPlan(
      graph, forwardCount: forwardCount, blocks: blocks.map { prepared[$0.value].name }, device: device, options: stepOptions)

    // The forward pass alone, with the statistics that are stored.
    let (forward, _) = try promoted.expandingNormalization(.frozen)
    evaluation = try Plan(forward, device: device, options: planOptions, variablesOf: step)

    // Passes give values new numbers but keep the inputs and their order.
    let inputs = Dictionary(uniqueKeysWithValues: zip(graph.inputs, step.graph.inputs))
    (input, self.targets, self.weights) = (inputs[data]!, inputs[targets]!, inputs[weights]!)
    (self.rates, self.gathering, self.averaging) = (inputs[rates]!, inputs[gathering]!, inputs[averaging]!)
    variables = graph.inputs.filter(graph.variables.contains).map { (graph[$0].name, inputs[$0]!) }
    networkNames = Set((learned + statistics).map(\.name))
    averagedNames = averaged
    parameterNames = gradients.map { learned[$0.parameter].name }
    parameterCount = gradients.reduce(0) { $0 + learned[$1.parameter].tensor.elementCount }

    let initial = Dictionary(uniqueKeysWithValues: (learned + statistics).map { ($0.name, $0.tensor) })
    for (name, value) in variables {
      let base = name.hasSuffix(Self.averageSuffix) ? String(name.dropLast(Self.averageSuffix.count)) : name
      let count = step.graph.type(of: value).elementCount
      try step.write(initial[base]?.floats() ?? [Float](repeating: 0, count: count), to: value)
    }
  }

  /// The plan of a step; where the device's memory is too small for it, one that computes parts of the forward pass again on the way
  /// back, of as few blocks at a time as fit.
  ///
  /// - Parameter blocks: names of the values between the network's blocks.
  /// - Throws: what the plain plan throws, if nothing fits.
  private static func stepPlan(
    _ graph: Graph, forwardCount: Int, blocks: [String], device: any Device, options: PlanOptions
  ) throws -> (plan: Plan, recomputes: Bool) {
    do {
      return (try Plan(graph, device: device, options: options), false)
    } catch let error as PlanMemoryError {
      let names = Set(blocks.filter { !$0.isEmpty })
      let cuts = graph.nodes[..<forwardCount].map(\.output).filter { names.contains(graph[$0].name) }
      for stride in [1, 2, 3, 4, 6, 8] where stride == 1 || stride < cuts.count {
        let kept = Set(Swift.stride(from: stride - 1, to: cuts.count, by: stride).map { cuts[$0] })
        let smaller = try graph.recomputing(forwardCount: forwardCount, keeping: kept)
        let plan: Plan
        do { plan = try Plan(smaller, device: device, options: options) } catch is PlanMemoryError { continue }
        DeviceNotes.note(
          "\(device.traits.identifier): a step of this batch needs \(ByteText.of(error.neededByteCount)), so that parts of the forward pass are computed "
            + "again on the way back: \(ByteText.of(plan.memory.byteCount)), and about a third more time")
        return (plan, true)
      }
      throw error
    }
  }

  private static let sumSuffix = "#sum", averageSuffix = "#average"
  private static let stateSuffixes = ["#first", "#second"]

  private static func power(_ base: Double, _ exponent: Int) -> Double { (0..<max(0, exponent)).reduce(1.0) { value, _ in value * base } }

  /// What a step gave.
  public struct StepResult: Sendable {
    /// Of each sample, unweighted.
    public var losses: [Float]
    /// Norm of the gradient, as it was before any limit; not finite where the step was left out.
    public var gradientNorm: Double
    /// [batch, C]
    public var outputs: [Float]
  }

  /// One batch forward and back, and the optimiser's step.
  ///
  /// - Parameters:
  ///   - samples: the batch as the graph's input takes it.
  ///   - targets: [batch, C].
  ///   - sampleWeights: what each sample's loss counts in the sum that is minimised; they make a mean if they add up to 1.
  ///   - isFirstOfSum: whether gradients are gathered from nothing; with one batch a step, always.
  public func train(
    _ samples: UnsafeRawBufferPointer, targets: [Float], sampleWeights: [Float], rates: OptimizerRates, isFirstOfSum: Bool = true
  ) throws -> StepResult {
    try step.write(samples, to: input)
    try step.write(targets, to: self.targets)
    try step.write(sampleWeights, to: weights)
    try step.write(rates.values, to: self.rates)
    if options.accumulatedBatches > 1 { try step.write([isFirstOfSum ? 0 : 1, 1], to: gathering) }
    if options.averageDecay > 0 {
      // Early averages would be mostly of where training began.
      let decay = min(options.averageDecay, Double(1 + rates.step) / Double(10 + rates.step))
      try step.write(rates.applies ? [Float(decay), Float(1 - decay)] : [1, 0], to: averaging)
    }
    try step.run()
    let squares = Double(try step.read(step.graph.outputs[1])[0])
    return StepResult(
      losses: try step.read(step.graph.outputs[0]), gradientNorm: squares.squareRoot() * Double(rates.gradientScale),
      outputs: try step.read(step.graph.outputs[2]))
  }

  /// The outputs [batch, C] for a batch, with the parameters as they are.
  public func evaluate(_ samples: UnsafeRawBufferPointer) throws -> [Float] {
    try evaluation.write(samples, to: evaluation.graph.inputs[0])
    try evaluation.run()
    return try evaluation.read(evaluation.graph.outputs[0])
  }

  /// Seconds of each launch of a step that was run before.
  public func profile() throws -> [Plan.Timing] { try step.profile() }

  // MARK: State

  /// Everything that a later run needs to go on to the same bits: parameters, statistics and the optimiser's state.
  public func state() throws -> [(name: String, tensor: HostTensor)] {
    try variables.map { name, value in (name, HostTensor(step.graph.type(of: value).shape, try step.read(value))) }
  }

  /// The network's own numbers: parameters, averaged where averages are kept, and statistics.
  public func networkTensors() throws -> [String: HostTensor] {
    var tensors: [String: HostTensor] = [:]
    for (name, value) in variables where networkNames.contains(name) {
      let source = averagedNames.contains(name) ? variables.first { $0.name == name + Self.averageSuffix }!.value : value
      tensors[name] = HostTensor(step.graph.type(of: value).shape, try step.read(source))
    }
    return tensors
  }

  /// Sets what `state` or `networkTensors` gave; names that are missing stay as they are.
  ///
  /// - Throws: `ShapeError` for a tensor of another shape.
  public func restore(_ tensors: [String: HostTensor]) throws {
    for (name, value) in variables {
      guard let tensor = tensors[name] else { continue }
      guard tensor.shape == step.graph.type(of: value).shape else {
        throw ShapeError(name, "its shape is \(tensor.shape), and \(step.graph.type(of: value).shape) is expected")
      }
      try step.write(tensor.floats(), to: value)
    }
  }

  /// Runs `body` with the averaged parameters in place of the trained ones, where averages are kept.
  public func withAverages<Value>(_ body: () throws -> Value) throws -> Value {
    guard options.averageDecay > 0 else { return try body() }
    let own = try state().filter { averagedNames.contains($0.name) }
    try restore(try networkTensors())
    let result = Result { try body() }
    // Whatever came of it: training goes on from its own parameters, or not at all.
    try restore(Dictionary(uniqueKeysWithValues: own.map { ($0.name, $0.tensor) }))
    return try result.get()
  }
}
