import Foundation
import GraftDevice

/// Finds the fastest kernel for each product, convolution and gradient of a convolution's weights, by trying.
///
/// Shapes are taken in the order of their share of the model's time, as the model of costs sees it. For each, the kernel that
/// would be chosen is measured in turns with the candidates, those first that ought to be fast. A candidate is timed only
/// after its result was found right: a sample of it against double precision, and all of it against the default's.
public struct KernelTuner {
  /// What was found for one shape.
  public struct Result: Sendable {
    /// The shape in words, and in how many places of the model it is.
    public let shape: String
    public let useCount: Int
    public let defaultKernel: String
    public let kernel: String
    /// Of the default, and of the fastest.
    public let defaultSeconds, seconds: Double
    public let triedCount: Int
    /// Candidates that gave a wrong result or could not be run, in words.
    public let excluded: [String]
    /// Why nothing could be tried, if nothing could.
    public let failure: String?

    public var speedUp: Double { seconds > 0 ? defaultSeconds / seconds : 1 }
  }

  public struct Outcome: Sendable {
    public let results: [Result]
    /// Shapes there are; more than `results` if the time was up or the tuner was told to stop.
    public let shapeCount: Int
    /// Where the winners are.
    public let path: String
  }

  private let device: any Device
  private let options: PlanOptions
  private let file: KernelTuningFile
  /// A candidate that a process ended in is not tried again.
  private let journal: TrialJournal
  private let deadline: ContinuousClock.Instant

  /// A winner has to be this much faster: less is noise, and a change for nothing.
  private static let leastGain = 1.03

  /// - Parameters:
  ///   - options: those the model is going to be run with.
  ///   - seconds: how long to try; a candidate that has begun is finished.
  public init(device: any Device, options: PlanOptions, seconds: Double) {
    self.init(device: device, options: options, seconds: seconds, environment: ProcessInfo.processInfo.environment)
  }

  package init(device: any Device, options: PlanOptions, seconds: Double, environment: [String: String]) {
    (self.device, self.options) = (device, options)
    file = KernelTuningFile(for: device, folder: CacheFolder.url("tuning", environment: environment))
    journal = TrialJournal(environment: environment)
    deadline = ContinuousClock.now + .seconds(seconds)
  }

  /// Tries, and stores the winners as it goes: what is found before it is stopped is kept, and so is what an earlier search found and this
  /// one has not tried again.
  ///
  /// - Parameters:
  ///   - isCancelled: asked before each candidate.
  ///   - progress: is told what was tried, of how many shapes, and the shape.
  /// - Throws: what lowering the graph throws; `DeviceError` of a device that is lost; `FileError` if the file cannot be written.
  public func tune(
    _ graph: Graph, isCancelled: () -> Bool = { false }, progress: (_ shape: Int, _ of: Int, String) -> Void = { _, _, _ in }
  ) throws -> Outcome {
    var plain = options
    plain.tuning = KernelTuning()
    let (lowered, schedule) = try Plan.lower(graph, device: device, options: plain)
    let subjects = Self.subjects(schedule, lowered, plain)
    // A file that cannot be used is replaced.
    var tuning = (try? file.load()) ?? KernelTuning()
    var results: [Result] = []
    for (number, subject) in subjects.enumerated() {
      guard !isCancelled(), ContinuousClock.now < deadline else { break }
      progress(number + 1, subjects.count, subject.shape.text)
      var trial = Trial(
        subject: subject, device: device, options: plain, deadline: deadline, leastGain: Self.leastGain, journal: journal, holdsFor: file.holdsFor)
      let key = KernelTuning.key(subject.shape, Self.format(options, unit: subject.unit), unit: subject.unit)
      let (result, winner, isDecided) = try trial.run(after: tuning[key]?.kernel, isCancelled: isCancelled)
      results.append(result)
      guard result.failure == nil, isDecided, tuning[key] != winner else { continue }
      tuning[key] = winner
      try file.save(tuning)
    }
    return Outcome(results: results, shapeCount: subjects.count, path: file.path)
  }

  /// A shape of the model, with an operation that has it.
  struct Subject {
    var shape: ProductShape
    var imageCount: Int
    var kernel: ProductKernel
    var unit: MatrixUnit?
    var benchmark: OperationBenchmark
    var useCount = 1
    var cost: Double
    /// Rows and columns of a convolution's result.
    var outputExtent: Pair? {
      benchmark.outputShape.count == 4 && shape.kind == .convolution ? Pair(benchmark.outputShape[1], benchmark.outputShape[2]) : nil
    }
  }

  /// What a kernel is known by: what its unit multiplies, or the plain kernels' numbers.
  private static func format(_ options: PlanOptions, unit: MatrixUnit?) -> ComputeFormat {
    unit == nil ? ComputeFormat(options.precision) : options.format
  }

  /// The shapes of a schedule, the most expensive first. Operations that no benchmark can be made of are left out.
  private static func subjects(_ schedule: Schedule, _ graph: Graph, _ options: PlanOptions) -> [Subject] {
    var subjects: [KernelTuning.Key: Subject] = [:]
    for choice in schedule.choices where graph.nodes.indices.contains(choice.time) {
      let unit: MatrixUnit? = if case .matrix = choice.kernel { schedule.traits.matrixUnit } else { nil }
      let key = KernelTuning.key(choice.shape, format(options, unit: unit), unit: unit)
      if subjects[key] != nil {
        subjects[key]?.useCount += 1
        continue
      }
      let node = graph.nodes[choice.time]
      // What the network ends with, in float32, is too little to be tuned.
      guard schedule.precision(of: node.output) == options.precision else { continue }
      let types = node.inputs.map { graph.type(of: $0) }
      guard let benchmark = try? benchmark(node.operation, types, choice) else { continue }
      // Seconds on a GPU of moderate speed: only ratios matter.
      subjects[key] = Subject(
        shape: choice.shape, imageCount: choice.imageCount, kernel: choice.kernel, unit: unit, benchmark: benchmark,
        cost: max(benchmark.flops / 2e13, benchmark.byteCount / 1e12))
    }
    return subjects.values.sorted { (-$0.cost * Double($0.useCount), $0.shape.text) < (-$1.cost * Double($1.useCount), $1.shape.text) }
  }

  private static func benchmark(_ operation: any Operation, _ types: [TensorType], _ choice: ProductChoice) throws -> OperationBenchmark? {
    switch operation {
    case let conv as Conv2D:
      let weights = types[1].shape
      return try OperationBenchmark(
        input: types[0].shape, outputs: weights[0], kernel: Pair(weights[2], weights[3]), stride: conv.stride, padding: conv.padding,
        dilation: conv.dilation, groups: conv.groups, isPacked: !choice.shape.weightsVary)
    case is MatMul:
      let shape = choice.shape
      return try OperationBenchmark(
        m: shape.rows(choice.imageCount), n: shape.n, k: shape.k, batch: shape.products(choice.imageCount), transposeA: shape.transposeA,
        transposeB: shape.transposeB, isPacked: shape.images == .rows)
    case let gradient as Conv2DWeightGradient:
      return try OperationBenchmark(weightsOf: gradient, input: types[0].shape, upstream: types[1].shape)
    default: return nil
    }
  }
}

/// The candidates for one shape, one after the other.
private struct Trial {
  let subject: KernelTuner.Subject
  let device: any Device
  var options: PlanOptions
  let deadline: ContinuousClock.Instant
  let leastGain: Double
  let journal: TrialJournal
  /// Device, driver and kernels.
  let holdsFor: [String]
  private var excluded: [String] = []
  private var triedCount = 0

  init(
    subject: KernelTuner.Subject, device: any Device, options: PlanOptions, deadline: ContinuousClock.Instant, leastGain: Double,
    journal: TrialJournal, holdsFor: [String]
  ) {
    (self.subject, self.device, self.options, self.deadline, self.leastGain) = (subject, device, options, deadline, leastGain)
    (self.journal, self.holdsFor) = (journal, holdsFor)
    self.options.imageCount = subject.shape.images == .none ? 0 : subject.imageCount
  }

  /// A device that is there no longer; anything else concerns one candidate.
  private func isLost(_ error: any Error) -> Bool {
    guard let error = error as? DeviceError else { return false }
    return error.isLost
  }

  private func prepare(_ kernel: ProductKernel, _ values: [[Float]]) throws -> PreparedOperationBenchmark {
    try ProductKernel.$forced.withValue(kernel) { try subject.benchmark.prepare(on: device, options: options, values: values) }
  }

  /// What candidates are compared with, and timed beside.
  private struct Standard {
    let benchmark: PreparedOperationBenchmark
    let values: [[Float]]
    let expected: [Float]
    let accuracy: PreparedOperationBenchmark.Accuracy
    let largest: Float
  }

  /// - Parameter known: the winner of an earlier search. It is tried first, so that one that is cut short does not lose it.
  /// - Returns: besides the result the winner, if any is faster than the default, and whether it may take the place of the known one.
  mutating func run(after known: ProductKernel?, isCancelled: () -> Bool) throws -> (KernelTuner.Result, KernelTuning.Entry?, isDecided: Bool) {
    let values = subject.benchmark.values(for: options.format), standard: Standard
    do {
      let benchmark = try prepare(subject.kernel, values)
      try benchmark.plan.run()
      let expected = try benchmark.plan.read(benchmark.plan.graph.outputs[0])
      standard = Standard(
        benchmark: benchmark, values: values, expected: expected, accuracy: benchmark.accuracy(of: expected),
        largest: expected.reduce(Float(0)) { max($0, $1.magnitude) })
    } catch  where !isLost(error) {
      return (result(nil, standard: 0, failure: "\(error)"), nil, isDecided: false)
    }
    // A default that is wrong is nothing to compare with; the samples against double precision then have to do.
    let isRight = standard.accuracy.isWithinBound
    if !isRight { excluded.append(words(subject.kernel, standard.accuracy)) }
    var best: (kernel: ProductKernel, seconds: Double, standard: Double)?
    var standardSeconds = Double.infinity
    var isDecided = true
    let all = candidates(), first = all.filter { $0 == known }
    for (index, kernel) in (first + all.filter { $0 != known }).enumerated() {
      guard !isCancelled(), ContinuousClock.now < deadline else {
        isDecided = known == nil ? best != nil : !first.isEmpty && index > 0
        break
      }
      let trial = holdsFor + [subject.shape.text, options.format.rawValue, name(kernel)]
      guard journal.unfinishedCount(trial) == 0 else {
        excluded.append("\(name(kernel)): not tried, because graft ended while it was; remove \(journal.path(trial)) to have it tried again")
        continue
      }
      do {
        guard let (mine, other) = try journal.trying(trial, isFatal: isLost, { try measure(kernel, standard) }) else { continue }
        standardSeconds = min(standardSeconds, other)
        if !isRight || mine * leastGain < other, mine / other < best.map({ $0.seconds / $0.standard }) ?? .infinity {
          best = (kernel, mine, other)
        }
      } catch  where !isLost(error) {
        triedCount += 1
        excluded.append("\(name(kernel)): \(String("\(error)".prefix(400)))")
      }
    }
    let entry = best.map { KernelTuning.Entry(kernel: $0.kernel, imageCount: subject.imageCount, seconds: $0.seconds, defaultSeconds: $0.standard) }
    if standardSeconds == .infinity { standardSeconds = try seconds(standard.benchmark.plan) }
    return (result(entry, standard: standardSeconds), entry, isDecided)
  }

  /// Checks a candidate and, if it is right, times it and the default in turns; `nil` if it is wrong, or does not take the shape.
  private mutating func measure(_ kernel: ProductKernel, _ standard: Standard) throws -> (mine: Double, other: Double)? {
    let candidate = try prepare(kernel, standard.values)
    // A tile whose copies the operands' rows do not suit leaves the product to another kernel.
    if subject.unit != nil, try !candidate.plan.profile().contains(where: { $0.kernel.hasPrefix("matrix_") }) { return nil }
    try candidate.plan.run()
    let found = try candidate.plan.read(candidate.plan.graph.outputs[0])
    triedCount += 1
    let accuracy = candidate.accuracy(of: found)
    guard accuracy.isWithinBound else {
      excluded.append(words(kernel, accuracy))
      return nil
    }
    let bound = 2 * Float(accuracy.bound) * standard.largest
    if standard.accuracy.isWithinBound, let difference = difference(found, standard.expected, bound: bound) {
      excluded.append("\(name(kernel)): result \(difference) differs from the default's")
      return nil
    }
    return try inTurns(candidate.plan, standard.benchmark.plan)
  }

  private func name(_ kernel: ProductKernel) -> String { kernel.splits > 1 ? "\(kernel.name), k in \(kernel.splits) parts" : kernel.name }

  private func words(_ kernel: ProductKernel, _ accuracy: PreparedOperationBenchmark.Accuracy) -> String {
    "\(name(kernel)): off by \(Float(accuracy.largestRelativeError)) of the largest result, more than \(Float(accuracy.bound))"
  }

  private func result(_ entry: KernelTuning.Entry?, standard: Double, failure: String? = nil) -> KernelTuner.Result {
    KernelTuner.Result(
      shape: subject.shape.text, useCount: subject.useCount, defaultKernel: name(subject.kernel), kernel: name(entry?.kernel ?? subject.kernel),
      defaultSeconds: entry?.defaultSeconds ?? standard, seconds: entry?.seconds ?? standard, triedCount: triedCount, excluded: excluded,
      failure: failure)
  }

  /// The first element that is further off than `bound`, or not a number.
  private func difference(_ found: [Float], _ expected: [Float], bound: Float) -> Int? {
    found.indices.first { !(abs(found[$0] - expected[$0]) <= bound) }
  }

  /// The kernels to try besides the default: of its kind, with a few cuts of k, those first that the model of costs likes; what
  /// it takes for much slower than the best is left out.
  private func candidates() -> [ProductKernel] {
    let (shape, images, traits) = (subject.shape, subject.imageCount, device.traits)
    let (m, n, k, count) = (shape.rows(images), shape.n, shape.k, shape.products(images)), units = traits.multiprocessors
    var found: [(kernel: ProductKernel, cost: Double)] = []
    if let unit = subject.unit {
      let gathers = shape.kind == .weights || shape.kind == .convolution && (shape.kernel != Pair(1) || shape.stride != Pair(1))
      for tile in MatrixTile.candidates(unit.kind, options.format) where !gathers || tile.hasRoomForWindows(on: unit.kind) {
        let blocks = tile.blockCount(m: m, n: n) * count
        let filling = shape.images == .none ? ProductKernel.fillingSplits(blocks: blocks, units: units, k: k, tileK: tile.tileK) : []
        for splits in Set(ProductKernel.splitCounts(k: k, tileK: tile.tileK) + filling).sorted() {
          found.append((.matrix(tile, splits: splits), tile.cost(m: m, n: n, k: k, count: count, splits: splits, units: units, on: unit.kind)))
        }
      }
    } else {
      for tile in GEMMTile.candidates where tile.fits(traits) {
        for splits in ProductKernel.splitCounts(k: k, tileK: tile.tileK) {
          let cost = tile.cost(m: m, n: n, k: k, count: count, splits: splits, vectors: GEMMVectors(a: 4, b: 4, y: 4), units: units)
          found.append((.tiled(tile, splits: splits), cost))
        }
      }
      // Nothing to compare their cost with: they are tried first, the transforms with the tiles that their products like.
      found += winograd(shape, images)
      if shape.kind == .product || shape.kind == .packed, shape.isSkinny(images, traits) {
        for splits in [1, 2, 4, 8, 16, 32] where k / splits >= 256 || splits == 1 { found.append((.skinny(splits: splits), 0)) }
      }
    }
    let least = found.lazy.map(\.cost).filter { $0 > 0 }.min() ?? 0
    return found.filter { $0.kernel != subject.kernel && $0.cost <= 3 * least }.sorted { $0.cost < $1.cost }.map(\.kernel)
  }

  /// Winograd's transforms, where the operation is one that they compute in this format.
  private func winograd(_ shape: ProductShape, _ images: Int) -> [(kernel: ProductKernel, cost: Double)] {
    guard options.usesWinograd, options.precision == .float32, shape.isWinogradConvolution, let output = subject.outputExtent else { return [] }
    return [Winograd(outputs: 4), Winograd(outputs: 2)].flatMap { winograd -> [(kernel: ProductKernel, cost: Double)] in
      let tiles = images * winograd.tiles(output)
      let sorted = GEMMTile.candidates.filter { $0.fits(device.traits) }.sorted { a, b in
        func cost(_ tile: GEMMTile) -> Double {
          tile.cost(
            m: tiles, n: shape.n, k: shape.k / 9, count: winograd.positions, splits: 1, vectors: GEMMVectors(a: 4, b: 4, y: 4),
            units: device.traits.multiprocessors)
        }
        return cost(a) < cost(b)
      }
      return sorted.prefix(2).map { (.winograd(outputs: winograd.outputs, $0), 0) }
    }
  }

  /// The product's kernels, and those that bring its operands into their form; what a benchmark's graph has around them is left out.
  private static let kernels: Set<String> = [
    "gemm", "conv", "gemm_skinny", "matrix_gemm", "matrix_conv", "split_sum", "gemm_naive", "conv_naive", "winograd_input", "winograd_output",
    "winograd_weights", "conv_weights", "conv_weights_direct", "matrix_weights", "weights_sum", "pack", "pack_rows", "pad_rows",
  ]

  private func seconds(_ plan: Plan) throws -> Double {
    try plan.profile().reduce(0) { Trial.kernels.contains($1.kernel) ? $0 + $1.seconds : $0 }
  }

  /// The least time of each, measured in turns: a clock that changes, or a neighbour, meets both.
  private func inTurns(_ candidate: Plan, _ standard: Plan) throws -> (Double, Double) {
    let start = ContinuousClock.now
    var (mine, other) = (try seconds(candidate), try seconds(standard))
    // Twice as slow is slow enough.
    guard mine < 2 * other else { return (mine, other) }
    var turns = 1
    while turns < 3 || (turns < 20 && (ContinuousClock.now - start).inSeconds < 0.1) {
      mine = min(mine, try seconds(candidate))
      other = min(other, try seconds(standard))
      turns += 1
    }
    return (mine, other)
  }
}
