import Foundation
import GraftData
import GraftDevice
import GraftGraph
import GraftTraining
import Testing

/// The search for a learning rate, where the rates that work are known.
@Suite struct LearningRateSearchTests {
  private static let width = 4, classes = 2, rows = 64

  /// A linear layer from zero, and rows of one-hot features times `size`: with the squared loss and a whole batch a step, gradient
  /// descent converges below a rate of 2 / λ and diverges above, λ = size² / 4 being the largest eigenvalue of the second derivatives.
  private func trainer(size: Float, options changed: (inout TrainingOptions) -> Void = { _ in }) throws -> (trainer: Trainer, stable: Double) {
    let (width, classes, rows) = (Self.width, Self.classes, Self.rows)
    let network = TrainableNetwork(makeGraph: { batch in
      var graph = Graph()
      let x = graph.addInput(TensorType([batch, width]), name: "x")
      let weight = graph.addConstant(.zeros([classes, width]), name: "weight")
      graph.outputs = [try graph.add(MatMul(transposeB: true), [x, weight], name: "layer")]
      return graph
    })
    let x = (0..<rows * width).map { Float($0 / width % width == $0 % width ? size : 0) }
    var options = TrainingOptions(method: .sgd, learningRate: 1, weightDecay: 0, momentum: 0, epochs: 3, batchSize: rows)
    options.loss = .squared
    changed(&options)
    let program = try TrainingProgram(network, options: options, device: CPUDevice())
    let samples = ArrayInputs(x, labels: (0..<rows).map { $0 % width % classes })
    return (try Trainer(program, training: samples, validation: nil), 2 / (Double(size * size) / Double(width)))
  }

  @Test(arguments: [1, 10, 100] as [Float])
  func suggestsARateThatIsStable(_ size: Float) throws {
    let (trainer, stable) = try trainer(size: size)
    let before = try trainer.program.state()
    var search = LearningRateSearch()
    (search.lowest, search.highest) = (stable * 1e-4, stable * 1e3)
    var seen = 0
    let finding = try trainer.findLearningRate(search, onStep: { _ in seen += 1 })
    #expect(finding.end == .lossRose && finding.points.count == seen && seen < search.steps)
    let suggestion = try #require(finding.suggestion), last = try #require(finding.points.last)
    #expect(suggestion < stable && suggestion > stable / 200, "\(suggestion), and \(stable) is the limit")
    #expect(last.learningRate > stable)
    #expect(try #require(finding.lowestLossRate) == suggestion * 10)
    // Rates grow by one factor.
    for (one, next) in zip(finding.points, finding.points.dropFirst()) {
      #expect(abs(next.learningRate / one.learningRate - pow(1e7, 1 / 99.0)) < 1e-9)
    }
    // Nothing has moved, and the next run is the one that would have been.
    let after = try trainer.program.state()
    #expect(before.map(\.name) == after.map(\.name))
    for (old, new) in zip(before, after) { #expect(old.tensor.floats() == new.tensor.floats(), "\(old.name)") }
    #expect(trainer.history.isEmpty && trainer.bestEpoch == 0)
    #expect(try trainer.findLearningRate(search) == finding)
  }

  /// Training with the suggestion comes down; with ten times the stable rate it does not.
  @Test func theSuggestionTrains() throws {
    let (searching, stable) = try trainer(size: 10)
    let suggestion = try #require(try searching.findLearningRate().suggestion)
    func lastLoss(_ rate: Double) throws -> Double {
      let (trainer, _) = try trainer(size: 10) { ($0.learningRate, $0.epochs, $0.schedule, $0.warmupEpochs) = (rate, 30, .constant, 0) }
      _ = try trainer.run()
      return try #require(trainer.history.last).trainLoss
    }
    #expect(try lastLoss(suggestion) < 0.4)
    let diverged = Result { try lastLoss(stable * 10) }
    switch diverged {
    case .success(let loss): #expect(loss > 100)
    case .failure(let error): #expect(error is TrainingDivergedError)
    }
  }

  @Test(arguments: OptimizerStep.Method.allCases, [ComputeFormat.float32, .float16])
  func worksWithEveryOptimiser(_ method: OptimizerStep.Method, _ format: ComputeFormat) throws {
    let (trainer, _) = try trainer(size: 3) {
      ($0.method, $0.precision, $0.batchSize, $0.accumulatedBatches, $0.momentum) = (method, format, 20, 2, 0.9)
    }
    let before = try trainer.program.state()
    let finding = try trainer.findLearningRate()
    let suggestion = try #require(finding.suggestion)
    #expect(suggestion > 1e-6 && suggestion < 1)
    for (old, new) in zip(before, try trainer.program.state()) { #expect(old.tensor.floats() == new.tensor.floats(), "\(old.name)") }
  }

  /// Where nothing gets better there is nothing to suggest: at the optimum, and at rates that are all far too low.
  @Test(arguments: [true, false])
  func suggestsNothingWhereNothingFalls(_ isOptimum: Bool) throws {
    let (trainer, stable) = try trainer(size: 10)
    let optimum = (0..<Self.classes * Self.width).map { Float($0 % Self.width % Self.classes == $0 / Self.width ? 0.1 : 0) }
    if isOptimum { try trainer.program.restore(["weight": HostTensor([Self.classes, Self.width], optimum)]) }
    var search = LearningRateSearch()
    (search.lowest, search.highest) = (stable * 1e-9, stable * 1e-8)
    let finding = try trainer.findLearningRate(search)
    #expect(finding.end == .highestRate && finding.points.count == 100)
    #expect(finding.suggestion == nil)
  }

  @Test func refusesWhatMakesNoSense() throws {
    let (trainer, _) = try trainer(size: 1)
    for change in [
      { $0.lowest = 0 }, { $0.highest = 1e-8 }, { $0.steps = 3 }, { $0.smoothing = 1 }, { $0.limit = 0.5 }, { $0.lowest = .nan },
      { $0.highest = .infinity },
    ] as [(inout LearningRateSearch) -> Void] {
      var search = LearningRateSearch()
      change(&search)
      #expect(throws: TrainingOptionError.self) { try trainer.findLearningRate(search) }
    }
    let cancelled = CancellationFlag()
    cancelled.cancel()
    #expect(throws: CancelledError.self) { try trainer.findLearningRate(cancellation: cancelled) }
    // Parameters that are no numbers are an error, and stay for whoever looks for the reason.
    try trainer.program.restore(["weight": HostTensor([Self.classes, Self.width], Array(repeating: .nan, count: Self.classes * Self.width))])
    #expect(throws: TrainingDataError.self) { try trainer.findLearningRate() }
    #expect(try trainer.program.networkTensors()["weight"]?.floats().allSatisfy(\.isNaN) == true)
  }

  @Test func thePlotIsReadable() throws {
    let (trainer, _) = try trainer(size: 10)
    let plot = try Plot.learningRate(trainer.findLearningRate())
    for text in [">learning rate<", ">1e-7<", ">smoothed<", "suggested: "] { #expect(plot.source.contains(text), "\(text)") }
    #expect(!plot.source.contains("nan") && !plot.source.contains("inf\""))
  }
}
