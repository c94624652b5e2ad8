import ArgumentParser
import Foundation
import Graft

struct PretrainCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "pretrain", abstract: "Train a backbone from scratch on a folder of images.",
    discussion: """
      PATH holds a folder a class, or train, val and test folders of such; without those, 20 % of the images become test data. \
      A folder of IDX files, as Fashion-MNIST comes, will do too. What comes out is a .safetensors file and its .json, which 'graft extract --backbone' takes.

      Architectures: \(ResNet.known.joined(separator: ", ")). The small ones are for images of some 32 pixels.

      Normalisations use each batch's statistics, and the stored ones follow. With val images the epoch with the lowest loss on \
      them is kept, otherwise the last; test images are looked at once, at the end. After each epoch the state is written to \
      OUTPUT.checkpoint, and the same command goes on from there to the same bits.

      With --find-lr no model is trained: rates grow from 1e-7 to 10 over 100 steps (Smith, 2017), or until the smoothed loss is \
      four times its lowest. The suggestion is a tenth of the rate at the lowest: there falling and rising balance. The steepest \
      descent, the other usual rule, is a difference of noisy numbers and goes astray where training begins near an optimum.
      """)

  @Option(help: ArgumentHelp("What to train.", valueName: "name")) var architecture: String
  @Option(help: ArgumentHelp("The folder of images.", valueName: "path")) var data: String
  @OptionGroup var choosing: ClassOptions
  @Option(name: .customLong("output"), help: ArgumentHelp("Where the backbone goes.", valueName: "model.safetensors")) var outputPath: String?
  @Option(help: "Images a step.") var batchSize = 64
  @Option(help: ArgumentHelp("The part of the images that becomes test data where folders don't say.", valueName: "ratio")) var testFraction: Double?
  @OptionGroup var training: TrainingFlags
  @OptionGroup(title: "Random changes of pictures (default: --augment standard)") var augmenting: AugmentationFlags
  @OptionGroup(title: "Mixing") var mixing: MixingFlags
  @OptionGroup var preprocessing: PreprocessingOptions
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard outputPath != nil || training.findsRate else { throw ValidationError("Missing expected argument '--output <model.safetensors>'") }
    guard ResNet.known.contains(architecture) else {
      throw ValidationError("--architecture takes \(ResNet.known.joined(separator: ", ")), not '\(architecture)'.")
    }
    guard (1...65536).contains(batchSize) else { throw ValidationError("--batch-size takes 1 to 65536, not \(batchSize).") }
    if let testFraction, !(0...1).contains(testFraction) { throw ValidationError("--test-fraction takes a number from 0 to 1, not \(testFraction).") }
    guard outputPath?.hasSuffix(".safetensors") ?? true else {
      throw ValidationError("--output takes a name that ends in .safetensors, not '\(outputPath ?? "")'.")
    }
  }

  private struct Report: Encodable {
    let output, architecture, device: String
    let classes, samples, parameters, bestEpoch: Int
    let epochs: [EpochRecord]
    let test: Score?
    let seconds: Double

    struct Score: Encodable {
      let top1: Double
      let logLoss: Double
      let samples: Int
      enum CodingKeys: String, CodingKey {
        case top1, samples
        case logLoss = "log_loss"
      }
    }

    enum CodingKeys: String, CodingKey {
      case output, architecture, device, classes, samples, parameters, epochs, test, seconds
      case bestEpoch = "best_epoch"
    }
  }

  private struct Configuration: Encodable {
    let architecture: String
    let classes: Int
    let labels: [String]
    let preprocessing: Preprocessing

    enum CodingKeys: String, CodingKey {
      case architecture
      case classes = "num_classes"
      case labels = "label_names"
      case preprocessing = "pretrained_cfg"
    }
  }

  func execute() throws {
    let console = output.console
    let configurationPath = outputPath.map { $0.dropLast(".safetensors".count) + ".json" } ?? ""
    try training.watching.check(beside: outputPath, outputPath == nil ? nil : configurationPath, outputPath.map(checkpointPath))
    // validate() has seen that only a search for a rate goes without.
    let outputPath = outputPath ?? ""
    let started = ContinuousClock.now
    let rule = SplitRule(seed: SplitRule.default.seed, testFraction: testFraction ?? SplitRule.default.testFraction)
    let images = try LabelledImages(try ImageFolder(path: data, classes: choosing.names), rule: rule)
    for name in images.deadLinks { console.warn("the link '\(ImageFolder.shown(name))' leads nowhere, and is no class") }
    console.warn(
      images.outside, one: "image lies outside the class folders and was left out", more: "images lie outside the class folders and were left out")
    for name in images.emptyClasses { console.warn("the folder '\(ImageFolder.shown(name))' holds no image") }
    for name in images.passedOver { console.warn("the folder '\(ImageFolder.shown(name))' beside the splits is no split and was passed over") }
    guard images.classNames.count >= 2 else {
      throw TrainingDataError(message: "\(data) has a single class, \(images.classNames[0]): a classifier needs two or more.")
    }
    guard let network = ResNet(name: architecture, classes: images.classNames.count) else { throw ValidationError("no such architecture") }
    let trained = network.preprocessing
    let known = PreprocessingFields(
      inputSize: [3, trained.height, trained.width], interpolation: Interpolation(rawValue: trained.interpolation.rawValue),
      cropPct: trained.cropFraction, mean: trained.mean, std: trained.standardDeviation)
    let preprocessing = try preprocessing.resolve(over: known)
    let augmentation = augmenting.augmentation(default: .standard, for: preprocessing)
    func inputs(_ split: String, draws: Bool) -> ImageInputs? {
      let chosen = images.images(split: split)
      guard !chosen.isEmpty else { return nil }
      return ImageInputs(
        paths: chosen.map(\.path), labels: chosen.map(\.label), packed: images.packed, preprocessing: preprocessing,
        pixelLimit: self.preprocessing.maxPixels,
        views: draws && !augmentation.isIdentity ? augmentation : nil, seed: training.seed)
    }
    guard let train = inputs("train", draws: true) else { throw TrainingDataError(message: "\(data) has no training images.") }
    let missing = Set(images.classNames.indices).subtracting(train.labels).map { images.classNames[$0] }.sorted()
    guard missing.isEmpty else {
      throw TrainingDataError(message: "no training image shows \(missing.prefix(5).joined(separator: ", ")). Add images, or remove the class.")
    }
    let device = try computing.make(console)
    var options = try training.options(
      batchSize: min(batchSize, train.count), precision: format.precision, labels: train.labels, classes: images.classNames.count)
    options.normalization = .batch(momentum: 0.1)
    options.mixing = mixing.mixing
    options.planOptions = planning.planOptions(format.precision)
    if training.learningRate == nil { options.learningRate = options.method == .sgd ? 0.05 : 1e-3 }
    if training.weightDecay == nil { options.weightDecay = options.method == .sgd ? 5e-4 : 0.05 }
    let weights = network.initialState(seed: training.seed)
    let description = Architecture(network)
    let program = try TrainingProgram(
      TrainableNetwork(makeGraph: { batch in
        try description.classifierGraph(weights, inputShape: [batch, 3, preprocessing.height, preprocessing.width])
          .takingImageBytes(scale: preprocessing.scale, shift: preprocessing.shift)
      }), options: options, device: device)
    console.note(
      "\(description.name): \(program.parameterCount) numbers to train, \(train.count) images of \(images.classNames.count) classes, "
        + "\(byteText(program.memory.byteCount)) a step")
    let trainer = try Trainer(program, training: train, validation: inputs("val", draws: false))
    if training.findsRate { return try findLearningRate(trainer, plot: training.watching.plot, started: started, console: console) }
    let outcome = try runTraining(
      trainer, output: outputPath,
      identity:
        "\(FilePath.absolute(data)) \(architecture) \(preprocessing.canonicalJSON) \(augmentation.canonicalJSON) \(mixing.mixup) \(mixing.cutmix) \(training.identity) \(images.identity) \(images.classNames.joined(separator: ",")) \(batchSize) \(format.precision)",
      flags: training, console: console, keepsInitial: false)
    let tested = try inputs("test", draws: false).map { inputs in (try trainer.score(inputs, of: outcome.tensors), inputs.count) }

    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let configuration = try encoder.encode(
      Configuration(architecture: description.name, classes: images.classNames.count, labels: images.classNames, preprocessing: preprocessing))
    let tensors = weights.names.map { name in (name: name, tensor: outcome.tensors[name] ?? weights[name]!) }
    try SafetensorsFile.write(tensors: tensors, metadata: ["architecture": description.name, "graft_version": GraftVersion.text], to: outputPath)
    let file = try AtomicFile(replacing: configurationPath)
    try [UInt8](configuration).withUnsafeBytes { try file.append($0) }
    try file.commit()
    outcome.removeCheckpoint()
    Interruption.shared.setRemedy(nil)
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    let score = tested.map { String(format: ", top-1 %.4f on %d test images", $0.0.top1 ?? 0, $0.1) } ?? ""
    console.result("\(outputPath): epoch \(outcome.bestEpoch) of \(trainer.history.count) kept\(score), " + String(format: "%.1f s", seconds))
    console.note("next: graft extract --backbone \(outputPath) --data PHOTOS --output features")
    try console.object(
      Report(
        output: outputPath, architecture: description.name, device: device.traits.identifier, classes: images.classNames.count, samples: train.count,
        parameters: program.parameterCount, bestEpoch: outcome.bestEpoch, epochs: trainer.history,
        test: tested.map { Report.Score(top1: $0.0.top1 ?? 0, logLoss: $0.0.loss, samples: $0.1) }, seconds: seconds))
  }
}
