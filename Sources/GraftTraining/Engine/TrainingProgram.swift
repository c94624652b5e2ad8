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

  /// - Throws: `TrainingOptionError`, also for class weights or penalties that do not fit the network; `PlanMemoryError`, `GradientError` for
  ///   an operation without a gradient rule, `ShapeError`, `DeviceError`, `BuildError`.
  public init(_ network: TrainableNetwork, options: TrainingOptions, device: any Device) throws {
    try options.validate()
    (self.options, self.device) = (options, device)
    let made = try TrainingStep(network, options: options), graph = made.graph
    (step, recomputes) = try Self.stepPlan(
      graph, forwardCount: made.forwardCount, blocks: made.blockNames, device: device, options: options.stepPlanOptions)

    // The forward pass alone, with the statistics that are stored.
    let (forward, _) = try made.promoted.expandingNormalization(.frozen)
    evaluation = try Plan(forward, device: device, options: options.formattedPlanOptions, variablesOf: step)

    // Passes give values new numbers but keep the inputs and their order.
    let inputs = Dictionary(uniqueKeysWithValues: zip(graph.inputs, step.graph.inputs))
    (input, targets, weights) = (inputs[made.input]!, inputs[made.targets]!, inputs[made.weights]!)
    (rates, gathering, averaging) = (inputs[made.rates]!, inputs[made.gathering]!, inputs[made.averaging]!)
    variables = graph.inputs.filter(graph.variables.contains).map { (graph[$0].name, inputs[$0]!) }
    networkNames = Set(made.stored.map(\.name))
    averagedNames = made.averaged
    classCount = made.classCount
    parameterNames = made.trained.map(\.name)
    parameterCount = made.trained.reduce(0) { $0 + $1.tensor.elementCount }

    let initial = Dictionary(uniqueKeysWithValues: made.stored.map { ($0.name, $0.tensor) })
    for (name, value) in variables {
      let base = name.hasSuffix(TrainingStep.averageSuffix) ? String(name.dropLast(TrainingStep.averageSuffix.count)) : name
      let count = step.graph.type(of: value).elementCount
      try step.write(initial[base]?.floats() ?? [Float](repeating: 0, count: count), to: value)
    }
  }

  /// The plan of a step; where the device's memory is too small for it, one that computes parts of the forward pass again on the way
  /// back, of as few blocks at a time as fit.
  ///
  /// - Parameter blocks: names of the values between the network's blocks.
  /// - Throws: what the smallest of them throws, if nothing fits.
  private static func stepPlan(
    _ graph: Graph, forwardCount: Int, blocks: [String], device: any Device, options: PlanOptions
  ) throws -> (plan: Plan, recomputes: Bool) {
    do {
      return (try Plan(graph, device: device, options: options), false)
    } catch let error as PlanMemoryError {
      let names = Set(blocks.filter { !$0.isEmpty })
      let cuts = graph.nodes[..<forwardCount].map(\.output).filter { names.contains(graph[$0].name) }
      var least = error
      for stride in [1, 2, 3, 4, 6, 8] where stride == 1 || stride < cuts.count {
        let kept = Set(Swift.stride(from: stride - 1, to: cuts.count, by: stride).map { cuts[$0] })
        let smaller = try graph.recomputing(forwardCount: forwardCount, keeping: kept)
        let plan: Plan
        do { plan = try Plan(smaller, device: device, options: options) } catch let error as PlanMemoryError {
          if error.neededByteCount < least.neededByteCount { least = error }
          continue
        }
        DeviceNotes.note(
          "\(device.traits.identifier): a step of this batch needs \(ByteText.of(error.neededByteCount)), so that parts of the forward pass are computed "
            + "again on the way back: \(ByteText.of(plan.memory.byteCount)), and about a third more time")
        return (plan, true)
      }
      throw least
    }
  }

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
      let source = averagedNames.contains(name) ? variables.first { $0.name == name + TrainingStep.averageSuffix }!.value : value
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
