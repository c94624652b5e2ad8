import ArgumentParser
import Foundation
import Graft

struct PredictCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "Name what pictures show.",
    discussion: """
      A head for classes names the most likely ones. One for labels names the most likely of them, each with a probability of its own, \
      and marks with * those of 0.5 or more. One for numbers tells each.

      Of many pictures those that can't be read are named and passed over, and the exit status is then 65.

      The backbone is looked for where --backbone says, else beside the head, else where a store of the head's features \
      found it; its hash must be the one the head was trained with.
      """)

  @Argument(help: "The head's file.") var head: String
  @Argument(help: "Pictures.") var images: [String]
  @Option(help: ArgumentHelp("The backbone's file.", valueName: "model")) var backbone: String?
  @Option(help: ArgumentHelp("How many classes or labels to name (default: 5 classes; every label).", valueName: "count")) var topK: Int?
  @Flag(help: "Stop at the first picture that can't be read, instead of passing it over.") var strict = false
  @Option(help: "Pictures computed at a time.") var batchSize = 16
  @Option(help: ArgumentHelp("Refuse pictures of more pixels than this.", valueName: "count")) var maxPixels = ImageDecoder.defaultPixelLimit
  @Option(
    help: ArgumentHelp(
      "Number format of the backbone's weights and activations (default: the one the head's features were computed in).", valueName: "format"))
  var precision: ComputeFormat?
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard !images.isEmpty else { throw ValidationError("Name at least one picture.") }
    if let topK, topK < 1 { throw ValidationError("--top-k takes a positive number, not \(topK).") }
    guard batchSize > 0 else { throw ValidationError("--batch-size takes a positive number, not \(batchSize).") }
  }

  func execute() throws {
    let console = output.console
    let file = try SafetensorsFile(path: self.head)
    let tuned = FineTunedModel.isOne(file) ? try FineTunedModel(file, path: self.head) : nil
    let head: any FeatureClassifier = try tuned?.head ?? HeadFile.read(self.head)
    guard head.metadata.task != .regression || topK == nil else {
      throw ValidationError("--top-k is for classes and labels, and \(self.head) tells numbers.")
    }
    guard head.metadata.backboneSHA256 != nil, let text = head.metadata.preprocessing, let cut = head.metadata.cut else {
      throw HeadError(
        file: self.head, problem: "it was trained on imported features, so there is no backbone to show pictures to",
        remedy: "Train a head on a store that 'graft extract' made.")
    }
    guard let preprocessing = head.preprocessing else {
      throw HeadError(file: self.head, problem: "its preprocessing makes no sense: \(text)")
    }
    let (model, _) = try loadBackbone(try backbone ?? head.findBackbone(beside: self.head), console)
    try head.check(model, file: self.head)
    let device = try computing.make(console)
    let batch = min(batchSize, images.count)
    let options = planning.planOptions(precision ?? head.metadata.precision ?? .float32)
    // Logits of prepared pictures: by the frozen backbone and the head, or by the part before a moved cut and the part after it.
    let logits: (_ images: UnsafeRawBufferPointer, _ count: Int) throws -> [Float]
    let network = try tuned.map {
      try TunedNetwork($0, backbone: model, preprocessing: preprocessing, batchSize: batch, device: device, options: options)
    }
    if let network, tuned?.cut == nil {
      var padded = [UInt8](repeating: 0, count: batch * preprocessing.byteCount)
      logits = { images, _ in
        padded.withUnsafeMutableBytes { $0.copyMemory(from: images) }
        return try padded.withUnsafeBytes { try network.logits($0) }
      }
    } else {
      let frozen = try FrozenBackbone(
        model, cut: tuned?.cut ?? cut, preprocessing: preprocessing, batchSize: batch, device: device, options: options)
      let backend = DeviceLinearBackend(device: device), width = frozen.featureShape.reduce(1, *)
      var features = [Float](repeating: 0, count: batch * width)
      logits = { images, count in
        try features.withUnsafeMutableBufferPointer {
          try frozen.features(ofBatch: images, count: count, into: UnsafeMutableBufferPointer(rebasing: $0[..<(count * width)]))
        }
        if let network { return try features.withUnsafeBytes { try network.logits($0) } }
        var result: [Float] = []
        try head.forEachLogits(
          of: try ArrayFeatures(Array(features[..<(count * width)]), rowCount: count, dimension: width), file: self.head, backend: backend
        ) { result += $1 }
        return result
      }
    }
    let count = min(topK ?? (head.metadata.task == .classification ? 5 : head.classCount), head.classCount)
    let decoder = preprocessing.decoder(pixelLimit: maxPixels)
    var (predictions, values): ([ImagePrediction], [ValuePrediction]) = ([], [])
    /// Shows what `bytes` hold; with --json it is kept for the list.
    func predict(_ paths: [String], _ bytes: [UInt8]) throws {
      guard !paths.isEmpty else { return }
      // The last batch may be a short one.
      let found = try bytes.withUnsafeBytes {
        try logits(UnsafeRawBufferPointer(rebasing: $0[..<(paths.count * preprocessing.byteCount)]), paths.count)
      }
      let names = head.metadata.classes
      for (place, path) in paths.enumerated() {
        let outputs = found[place * head.classCount..<(place + 1) * head.classCount]
        switch head.metadata.task {
        case .regression: show(try ValuePrediction(path: path, outputs: outputs, targets: names), console, &values)
        case .multilabel:
          let found = try ImagePrediction(path: path, labelLogits: outputs, labels: names, topK: count)
          show(found, isMultilabel: true, console, &predictions)
        case .classification:
          let found = try ImagePrediction(path: path, logits: outputs, classes: names, topK: count, temperature: head.metadata.temperature)
          show(found, isMultilabel: false, console, &predictions)
        }
      }
      try Console.flush()
    }
    var (paths, skipped) = ([String](), 0), size = preprocessing.byteCount
    var bytes = [UInt8](repeating: 0, count: batch * size)
    for image in images {
      switch Result(catching: { () throws(ImageError) in try decoder.decode(path: image) }) {
      case .success(let decoded):
        bytes.withUnsafeMutableBufferPointer {
          preprocessing.apply(to: decoded, into: UnsafeMutableBufferPointer(rebasing: $0[paths.count * size..<(paths.count + 1) * size]))
        }
        paths.append(image)
      case .failure(let error):
        guard !strict, images.count > 1 else { throw error }
        console.warn("skipped \(ImageFolder.shown("\(error)"))")
        skipped += 1
      }
      guard paths.count == batch else { continue }
      try predict(paths, bytes)
      paths = []
    }
    try predict(paths, bytes)
    if head.metadata.task == .regression { try console.object(values) } else { try console.object(predictions) }
    guard skipped == 0 else {
      try Console.flush()
      throw SkippedPicturesError(skipped: skipped, total: images.count)
    }
  }

  private func show(_ prediction: ImagePrediction, isMultilabel: Bool, _ console: Console, _ kept: inout [ImagePrediction]) {
    if console.json { return kept.append(prediction) }
    console.result(prediction.path)
    console.result(
      tableText(
        prediction.predictions.map {
          let mark = isMultilabel && $0.probability >= ImagePrediction.threshold ? "* " : "  "
          return [mark + String(format: "%5.1f %%", $0.probability * 100), $0.label]
        }))
  }

  private func show(_ prediction: ValuePrediction, _ console: Console, _ kept: inout [ValuePrediction]) {
    if console.json { return kept.append(prediction) }
    console.result(prediction.path)
    for value in prediction.predictions { console.result("  \(value.target): " + String(format: "%.6g", value.value)) }
  }
}

/// Pictures that could not be read and were passed over.
struct SkippedPicturesError: Error, CustomStringConvertible {
  let skipped, total: Int
  var description: String { "\(skipped) of \(total) pictures could not be read; the warnings above name them." }
}
