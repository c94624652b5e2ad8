import GraftDevice
import GraftGraph

/// What a head of several layers is trained on: rows of features with a class or with targets each.
struct PerceptronSamples {
  let features: any FeatureSource
  /// Empty where there are `targets`.
  let labels: [Int]
  /// `[N, T]`
  let targets: [Float]?
  /// How a message calls a row.
  let name: (Int) -> String

  init(_ data: LabelledFeatures) { (features, labels, targets, name) = (data.features, data.labels, nil, { data.name(ofRow: $0) }) }

  /// - Parameter targets: `[N, T]`, as they are trained on.
  init(_ data: TargetedFeatures, targets: [Float]) {
    (features, labels, self.targets, name) = (data.features, [], targets, { data.name(ofRow: $0) })
  }
}

/// The layers of a head, trained by steps until they get no better on samples that are held out.
struct PerceptronTraining {
  let options: PerceptronOptions
  let training: TrainingOptions
  let device: any Device
  /// Gets all epochs so far, after each.
  let onEpoch: ([EpochRecord]) throws -> Void

  /// - Returns: layers for raw features (but for the division by length), and how they came about.
  func run(
    _ train: PerceptronSamples, held: PerceptronSamples?, outputs: Int, onProgress: @escaping (String) throws -> Void
  ) throws -> (layers: [PerceptronHead.Layer], bestEpoch: Int, history: [EpochRecord]) {
    let statistics = try FeatureStatistics(train.features, sampleLimit: 0, name: train.name)
    guard options.featureNormalisation != .none || statistics.largestMagnitude <= LinearProblem.largestFeature else {
      throw TrainingDataError.tooLarge(statistics.largestMagnitude)
    }
    let transform = FeatureTransform(options.featureNormalisation, statistics: statistics)
    var training = training
    training.batchSize = min(training.batchSize, train.features.rowCount)
    let program = try TrainingProgram(network(inputs: train.features.dimension, outputs: outputs), options: training, device: device)
    let trainer = try Trainer(program, training: try inputs(train, transform), validation: try held.map { try inputs($0, transform) })
    var failure: (any Error)?
    let tensors: [String: HostTensor]
    do {
      tensors = try trainer.run(
        onProgress: { progress in
          do {
            try onProgress("epoch \(progress.epoch): \(progress.step) of \(progress.stepsPerEpoch)")
          } catch { failure = failure ?? error }
        },
        onEpoch: { _ in
          if let failure { throw failure }
          try onEpoch(trainer.history)
        })
    } catch var error as TrainingDivergedError {
      // Heads are trained with no limit on the gradient.
      error.remedy = "Lower --learning-rate" + (options.featureNormalisation == .none ? ", or train with --normalise standardise." : ".")
      throw error
    }
    return (try layers(tensors, count: options.hidden.count + 1, transform), trainer.bestEpoch, trainer.history)
  }

  /// All rows in memory, normalised.
  private func inputs(_ data: PerceptronSamples, _ transform: FeatureTransform) throws -> DropoutInputs {
    var values: [Float] = []
    values.reserveCapacity(data.features.rowCount * data.features.dimension)
    try NormalisedFeatures(base: data.features, transform: transform).forEachChunk { chunk in
      if let place = chunk.values.firstIndex(where: { !$0.isFinite }) {
        throw TrainingDataError.notFinite(chunk.values[place], row: data.name(chunk.firstRow + place / chunk.dimension))
      }
      values.append(contentsOf: chunk.values)
    }
    return DropoutInputs(
      values: values, dimension: data.features.dimension, labels: data.labels, targets: data.targets,
      unitCount: options.dropout > 0 ? options.hidden.reduce(0, +) : 0,
      rate: options.dropout, seed: options.training.seed)
  }

  /// From rows of features, and masks after them, to logits. Weights begin as He et al., "Delving deep into rectifiers", 2015, have it.
  private func network(inputs: Int, outputs: Int) -> TrainableNetwork {
    let (hidden, hasDropout, seed) = (options.hidden, options.dropout > 0, options.training.seed)
    return TrainableNetwork { batch in
      var generator = SplitMix(seed &+ 0x5EED)
      var graph = Graph()
      let row = graph.addInput(TensorType([batch, inputs + (hasDropout ? hidden.reduce(0, +) : 0)]), name: "features and masks")
      func columns(_ first: Int, _ count: Int, _ name: String) throws -> ValueID {
        try graph.add(Slice(starts: [0, first], sizes: [batch, count], steps: [1, 1]), [row], name: name)
      }
      var (x, width, place) = (hasDropout ? try columns(0, inputs, "features") : row, inputs, inputs)
      for (index, units) in (hidden + [outputs]).enumerated() {
        let isLast = index == hidden.count
        // Uniform with the variance 2/width; the last layer begins with small logits.
        let bound = Float(((isLast ? 0.03 : 6) / Double(width)).squareRoot())
        let weight = (0..<units * width).map { _ in Float.random(in: -bound...bound, using: &generator) }
        let parameters = [
          graph.addConstant(HostTensor([units, width], weight), name: PerceptronHead.name(index, "weight")),
          graph.addConstant(HostTensor([units], [Float](repeating: 0, count: units)), name: PerceptronHead.name(index, "bias")),
        ]
        x = try graph.add(MatMul(transposeB: true, hasBias: true), [x] + parameters, name: "layer \(index)")
        width = units
        if isLast { break }
        x = try graph.add(Unary(.relu), [x], name: "relu \(index)")
        if hasDropout {
          x = try graph.add(Binary(.multiply), [x, try columns(place, units, "mask \(index)")], name: "dropout \(index)")
          place += units
        }
      }
      graph.outputs = [x]
      return graph
    }
  }

  private func layers(_ tensors: [String: HostTensor], count: Int, _ transform: FeatureTransform) throws -> [PerceptronHead.Layer] {
    try (0..<count).map { index in
      guard let weight = tensors[PerceptronHead.name(index, "weight")], let bias = tensors[PerceptronHead.name(index, "bias")] else {
        throw HeadError(file: nil, problem: "training gave no layer \(index)")
      }
      guard index == 0 else { return PerceptronHead.Layer(weight: weight.floats(), bias: bias.floats()) }
      let folded = transform.fold(weight: weight.floats().map(Double.init), bias: bias.floats().map(Double.init))
      return PerceptronHead.Layer(weight: folded.weight.map(Float.init), bias: folded.bias.map(Float.init))
    }
  }
}
