import ArgumentParser
import Foundation
import Graft

struct FinetuneCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "finetune", abstract: "Train a head together with the last blocks of its backbone.",
    discussion: """
      HEAD is what 'graft train' wrote for STORE. What stays frozen is computed once and stored at the new cut, beside STORE; \
      every epoch then reads it from the disk and computes only what is trained. With --unfreeze all everything is trained, \
      from the pictures.

      --unfreeze takes a number of blocks counted from the end, a pattern of parameter names as 'blocks.6.*', or all. A block \
      is a residual block, an inverted bottleneck, or layers in a row up to where the network is narrow again; the first of \
      them lies before the classifier.

      The objective is the head's own, its penalty included: cross-entropy for classes, a logistic loss for each of many labels, and \
      for numbers, in units of their standard deviation, squares or --loss huber. A ridge head of classes, which was fitted to squares, \
      goes on with cross-entropy and without a penalty. Where STORE has a val split, the epoch with the lowest loss on it is kept \
      (the head as it came included, if nothing was better), and probabilities of classes are calibrated on it; otherwise the last. \
      After each epoch the state is written to OUTPUT.checkpoint, and the same command goes on from there to the same bits.

      Normalisations keep their stored statistics, which is best where pictures are like those that the backbone was trained on, or few. \
      With --normalisation batch they use those of each batch in training, and the stored ones follow; that is for files with \
      normalisations that an exporter has not folded away.

      With --find-lr no model is trained: rates grow from 1e-7 to 10 over 100 steps (Smith, 2017), or until the smoothed loss is \
      four times its lowest. The suggestion is a tenth of the rate at the lowest: there falling and rising balance. The steepest \
      descent, the other usual rule, is a difference of noisy numbers and goes astray where training begins near an optimum. What is \
      computed at the new cut is kept.
      """)

  @Argument(help: "The head's file.") var head: String
  @Argument(help: "The store it was trained on.") var store: String
  @Option(help: ArgumentHelp("What to train of the backbone: a number of blocks, a pattern, or all.", valueName: "part")) var unfreeze = "1"
  @Option(name: .customLong("output"), help: ArgumentHelp("Where the model goes.", valueName: "tuned.safetensors")) var outputPath: String?
  @Option(help: ArgumentHelp("The backbone's file (default: where it was).", valueName: "model")) var backbone: String?
  @Option(help: ArgumentHelp("The folder of pictures (default: where they were).", valueName: "path")) var data: String?
  @Option(help: ArgumentHelp("The store at the new cut (default: STORE.at-CUT).", valueName: "store")) var cutStore: String?
  @Option(help: ArgumentHelp("Number format of the rows stored at the new cut: float32 or float16.", valueName: "format")) var featureType = "float16"
  @Option(help: ArgumentHelp("For numbers: squared or huber (default: squared).", valueName: "kind")) var loss: String?
  @OptionGroup var training: TrainingFlags
  @OptionGroup(title: "Random changes of pictures (with --unfreeze all; default: --augment standard)") var augmenting: AugmentationFlags
  @OptionGroup(title: "Mixing (with --unfreeze all)") var mixing: MixingFlags
  @Option(help: ArgumentHelp("The statistics of batch normalisations in training: frozen or batch.", valueName: "kind")) var normalisation =
    Normalisation.frozen
  @Option(help: "Samples a step.") var batchSize = 32
  @Flag(help: "Say what would be trained and stored, and stop.") var dryRun = false
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  enum Normalisation: String, CaseIterable, ExpressibleByArgument { case frozen, batch }

  func validate() throws {
    guard outputPath != nil || training.findsRate || dryRun else { throw ValidationError("Missing expected argument '--output <tuned.safetensors>'") }
    guard Unfreezing(unfreeze) != nil else { throw ValidationError("--unfreeze takes a positive number, a pattern or all, not '\(unfreeze)'.") }
    guard (1...65536).contains(batchSize) else { throw ValidationError("--batch-size takes 1 to 65536, not \(batchSize).") }
    guard !(augmenting.isGiven || mixing.mixing.isOn) || unfreeze == "all" else {
      throw ValidationError(
        "pictures are changed at random, and mixed, where they are trained on, with --unfreeze all; stored rows are varied by 'graft extract --views'."
      )
    }
    guard featureType == "float32" || featureType == "float16" else {
      throw ValidationError("--feature-type takes float32 or float16, not '\(featureType)'.")
    }
  }

  private struct Outline: Encodable {
    let task: LabelTask
    let cut: String
    let cutShape: [Int]
    let cutStore: String?
    /// What is stored at the cut, of every split.
    let bytesPerSample, bytes: Int
    let parameters, samples: Int

    enum CodingKeys: String, CodingKey {
      case task, cut, bytes, parameters, samples
      case cutShape = "cut_shape"
      case cutStore = "cut_store"
      case bytesPerSample = "bytes_per_sample"
    }
  }

  private struct Report: Encodable {
    let output, device: String
    let task: LabelTask
    let cut: String
    let cutShape: [Int]
    let cutStore: String?
    let parameters, samples: Int
    /// One of them, by the task.
    let classes, labels, targets: Int?
    let bestEpoch: Int
    let epochs: [EpochRecord]
    let validation: Validation?
    /// Of labels or numbers: how the head did as it came.
    let validationBefore: TargetScore?
    let temperature: Double?
    let extractionSeconds, seconds: Double

    enum Validation: Encodable {
      case classes(Score)
      case targets(TargetScore)

      func encode(to encoder: any Encoder) throws {
        switch self {
        case .classes(let score): try score.encode(to: encoder)
        case .targets(let score): try score.encode(to: encoder)
        }
      }
    }

    struct Score: Encodable {
      let top1: Double
      let logLoss: Double
      let before: Double
      enum CodingKeys: String, CodingKey {
        case top1
        case logLoss = "log_loss"
        case before = "top1_before"
      }
    }

    enum CodingKeys: String, CodingKey {
      case output, device, task, cut, parameters, samples, classes, labels, targets, epochs, validation, temperature, seconds
      case cutShape = "cut_shape"
      case cutStore = "cut_store"
      case bestEpoch = "best_epoch"
      case validationBefore = "validation_before"
      case extractionSeconds = "extraction_seconds"
    }
  }

  func execute() throws {
    let console = output.console
    try training.watching.check(beside: outputPath, outputPath.map(checkpointPath))
    // validate() has seen that only a search for a rate and --dry-run go without.
    let outputPath = outputPath ?? ""
    let store = try FeatureStore.open(reading: self.store, warningOn: console)
    let task = store.labelling.task, head = try Head(path: self.head)
    try head.check(against: store, file: self.head)
    guard let hash = head.metadata.backboneSHA256, let feature = head.metadata.cut, let preprocessing = head.preprocessing else {
      throw HeadError(
        file: self.head, problem: "it was trained on imported features, so there is no backbone to train",
        remedy: "Train a head on a store that 'graft extract' made.")
    }
    let (model, _) = try loadBackbone(try backbone ?? head.findBackbone(beside: self.head), console)
    try head.check(model, file: self.head)
    let unfreezing = Unfreezing(unfreeze) ?? .all
    let cut = try MovedCut(model, feature: feature, preprocessing: preprocessing, unfreezing: unfreezing)
    guard normalisation == .frozen || cut.hasNormalizations else {
      throw TrainingDataError(
        message: "\(model.path) has no batch normalisation in what is trained: --normalisation batch would change nothing. Leave it out.")
    }
    let numbers = cut.parameterCount + head.weight.count + head.bias.count
    guard !store.samples(split: "train").isEmpty else { throw TrainingDataError(message: "\(self.store) has no training samples.") }
    let type: ElementType = featureType == "float16" ? .float16 : .float32
    let rowByteCount = cut.shape.reduce(1, *) * type.byteCount * store.key.views, sampleCount = store.samples().count
    let cutPath = cutStore ?? FineTunedModel.cutStorePath(of: self.store, cut: cut.name ?? "")
    let outline =
      cut.name.map {
        "cut: \($0) \(cut.shape), \(byteText(rowByteCount)) a sample, \(byteText(rowByteCount * sampleCount)) for \(sampleCount); "
          + "\(cut.parameterNames.count) parameters of the backbone and the head are trained, \(numbers) numbers"
      } ?? "everything is trained, from the pictures: \(cut.parameterNames.count) parameters and the head, \(numbers) numbers"
    if !dryRun { console.note(outline) }
    let loss = try HeadFlags.loss(self.loss, for: task), trainingSamples = store.samples(split: "train"), isOfClasses = task == .classification
    let places = isOfClasses ? try head.places(ofOutputsIn: store) : []
    var options = try self.training.options(
      batchSize: min(batchSize, trainingSamples.count), precision: format.precision,
      labels: isOfClasses ? trainingSamples.map { places[$0.label] } : [], classes: head.classCount)
    (options.mixing, options.loss) = (mixing.mixing, loss)
    options.planOptions = planning.planOptions(format.precision)
    if normalisation == .batch { options.normalization = .batch(momentum: 0.1) }
    // Before anything is computed.
    try options.validate()
    if dryRun {
      console.result(outline)
      let stored = cut.name == nil ? 0 : rowByteCount
      return try console.object(
        Outline(
          task: task, cut: cut.name ?? "image", cutShape: cut.shape, cutStore: cut.name == nil ? nil : cutPath, bytesPerSample: stored,
          bytes: stored * sampleCount, parameters: numbers, samples: trainingSamples.count))
    }
    let fitted = store.allViews(of: trainingSamples)
    options.penalties["head.weight"] = try head.tuningPenalty(training: StoreFeatures(store, samples: fitted)) { "sample \(fitted[$0].id)" }

    let device = try computing.make(console)
    let started = ContinuousClock.now
    let augmentation = augmenting.augmentation(default: .standard, for: preprocessing)
    let data: TuningData
    if cut.name != nil {
      let (rows, remedy) = try storeAtCut(cut, cutPath, model, store, preprocessing, type, device, console)
      data = try TuningData(head, store, loss: loss) { samples, labels, targets, _ in
        let rowsOfSamples = try store.samples(samples, withRowsOf: rows, remedy: remedy)
        return try StoredInputs(rows, samples: rowsOfSamples, labels: labels, targets: targets, seed: self.training.seed)
      }
    } else {
      data = try TuningData(head, store, loss: loss) { samples, labels, targets, isTraining in
        try ImageInputs(
          store, samples: samples, labels: labels, targets: targets, root: self.data, preprocessing: preprocessing,
          views: isTraining && !augmentation.isIdentity ? augmentation : nil, seed: self.training.seed)
      }
    }
    let training = data.training
    let extractionSeconds = (ContinuousClock.now - started) / .seconds(1)

    let whole = FineTunedModel(head: head, cut: cut.name, parameters: [:]), base = try data.targets?.begin(whole) ?? whole
    let program = try model.namingFile {
      try TrainingProgram(base.network(model, preprocessing: preprocessing, unfreezing: unfreezing), options: options, device: device)
    }
    console.note("training step: \(byteText(program.memory.byteCount)) on \(device.traits.identifier)")
    let trainer = try Trainer(program, training: training, validation: data.validation)
    if self.training.findsRate { return try findLearningRate(trainer, plot: self.training.watching.plot, started: started, console: console) }
    let scoreBefore = try data.score(program)
    let outcome = try runTraining(
      trainer, output: outputPath,
      identity:
        "\(hash) \(try ContentHash.ofFile(self.head)) \(unfreeze) \(cut.name ?? "image \(augmentation.canonicalJSON) \(mixing.mixup) \(mixing.cutmix)") \(self.training.identity) \(data.identity) \(batchSize) \(format.precision)"
        // Rows of another format, or other views of the same pictures, are other inputs.
        + (cut.name == nil ? "" : " \(type) \(store.key.views) \(store.key.viewDrawing)")
        + (task == .classification ? "" : " \(task.rawValue) \(loss)") + (normalisation == .frozen ? "" : " \(normalisation)"),
      flags: self.training, console: console, keepsInitial: true)
    var metrics = ["epochs": Double(outcome.bestEpoch)]
    if let top1 = outcome.score?.top1 { metrics["validation_top1"] = top1 }
    var tuned = try base.replacing(outcome.tensors, precision: format.precision, metrics: metrics)
    // What is kept may be another epoch's than the last.
    try program.restore(outcome.tensors)
    let score = try data.score(program)
    if let targets = data.targets {
      tuned = try targets.end(tuned, score: score)
    } else if let validation = data.validation {
      tuned = try tuned.calibrated(logits: program.outputs(of: validation), labels: validation.labels)
    }
    try tuned.write(to: outputPath)
    outcome.removeCheckpoint()
    Interruption.shared.setRemedy(nil)
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    var gained = ""
    if let score, let scoreBefore {
      gained = ", \(TargetScore.titles(task)[0]) \(score.columns[0]) on validation (\(scoreBefore.columns[0]) before)"
    } else if let top1 = outcome.score?.top1 {
      gained = String(
        format: ", %.3f on validation (%.3f before), temperature %.3f", top1, outcome.initial?.top1 ?? 0, tuned.head.metadata.temperature)
    }
    console.result(
      "\(outputPath): \(head.classCount) \(task.outputWord), \(training.count) samples, "
        + "epoch \(outcome.bestEpoch) of \(trainer.history.count) kept\(gained), " + String(format: "%.1f s", seconds))
    console.note("next: graft evaluate \(outputPath) \(self.store)")
    let scored: Report.Validation? =
      score.map { .targets($0) }
      ?? outcome.score.flatMap { score in
        score.top1.map { .classes(Report.Score(top1: $0, logLoss: score.loss, before: outcome.initial?.top1 ?? 0)) }
      }
    func count(_ wanted: LabelTask) -> Int? { task == wanted ? head.classCount : nil }
    try console.object(
      Report(
        output: outputPath, device: device.traits.identifier, task: task, cut: cut.name ?? "image", cutShape: cut.shape,
        cutStore: cut.name == nil ? nil : cutPath, parameters: numbers, samples: training.count, classes: count(.classification),
        labels: count(.multilabel), targets: count(.regression), bestEpoch: outcome.bestEpoch, epochs: trainer.history, validation: scored,
        validationBefore: scoreBefore, temperature: task == .classification && data.validation != nil ? tuned.head.metadata.temperature : nil,
        extractionSeconds: extractionSeconds, seconds: seconds))
  }

  /// The store at the new cut, brought up to date with the samples of the one that the head was trained on.
  private func storeAtCut(
    _ cut: MovedCut, _ path: String, _ model: Backbone, _ store: FeatureStore, _ preprocessing: Preprocessing, _ type: ElementType,
    _ device: any Device, _ console: Console
  ) throws -> (rows: FeatureStore, remedyIfMissing: String) {
    let kept = "What was computed at the new cut is kept; run the same command again."
    Interruption.shared.setRemedy(kept)
    let key = FeatureKey(
      backboneSHA256: store.key.backboneSHA256, cut: cut.name ?? "", cutShape: cut.shape, preprocessing: preprocessing.canonicalJSON,
      precision: format.precision.rawValue,
      views: store.key.views, viewDrawing: store.key.viewDrawing, featureType: type)
    var options = ExtractionOptions()
    options.split = store.splitRule
    options.advice = ("--cut-store", "remove the folder")
    options.facts = store.entries.filter { ["backbone_path", "backbone_file"].contains($0.key) }
    options.facts["graft_version"] = GraftVersion.text
    let samples = try ImageFolder(path: ImageInputs.root(of: store, given: data), samplesOf: store)
    // How many pixels a picture may have was asked when it came into the store.
    let run = try FeatureExtraction(data: samples, store: path, key: key, preprocessing: preprocessing, pixelLimit: .max, options: options)
    let line = ProgressLine(console)
    defer { line.finish() }
    let summary = try Interruption.shared.deferring(console, goingOn: kept) { flag in
      try run.run(
        computing: {
          try FrozenBackbone(
            model, cut: cut.name, preprocessing: preprocessing, batchSize: 16, device: device, options: planning.planOptions(format.precision))
        }, cancellation: flag,
        progress: { line.show("\($0.done) of \($0.total) images at the new cut, \(Int($0.imagesPerSecond)) images/s") })
    }
    line.finish()
    console.note(
      String(format: "%@: %d computed, %d there already, %.1f s", path, summary.extracted, summary.reused, summary.seconds))
    let remedy =
      summary.unstorable.map { "Of \($0.image.path) \($0.image.reason). \($0.remedy)" }
      ?? "Its pictures have changed since: run the 'graft extract' that made \(self.store) again."
    return (try FeatureStore.open(reading: path), remedy)
  }
}
