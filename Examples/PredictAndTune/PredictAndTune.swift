import Foundation
import Graft

/// Trains a head for classes on a store, and keeps it in a file.
func train(on store: FeatureStore, output: String, device: any Device) throws {
  let validation = store.samples(split: "val").isEmpty ? nil : try store.labelled(split: "val")
  let data = LinearTrainingData(train: try store.labelled(split: "train"), validation: validation, classes: store.classNames)
  let fitting = LinearFitting(backend: DeviceLinearBackend(device: device))
  let fitted = try fitting.fit(data, strength: nil, metadata: HeadMetadata(of: store)) { _ in }
  try fitted.classifier.write(to: output)
}

/// What pictures show, by a head's file or that of a fine-tuned model; logits [N, C] in the order of the pictures.
func logits(of pictures: [String], head path: String, device: any Device) throws -> (values: [Float], metadata: HeadMetadata) {
  let file = try SafetensorsFile(path: path)
  let tuned = FineTunedModel.isOne(file) ? try FineTunedModel(file, path: path) : nil
  let head: any FeatureClassifier = try tuned?.head ?? HeadFile.read(path)
  let backbone = try backbone(of: head, path)
  guard let preprocessing = head.preprocessing else { throw HeadError(file: path, problem: "it does not say how pictures are prepared") }

  let images = ImageInputs(paths: pictures, labels: [], preprocessing: preprocessing), count = images.count
  let options = PlanOptions(format: head.metadata.precision ?? .float32)
  let network = try tuned.map {
    try TunedNetwork($0, backbone: backbone, preprocessing: preprocessing, batchSize: count, device: device, options: options)
  }
  var result: [Float] = []
  if let network, tuned?.cut == nil {
    // Trained from pictures: nothing is frozen before it.
    try network.forEachLogits(of: images) { result += $1 }
    return (result, head.metadata)
  }
  let frozen = try FrozenBackbone(
    backbone, cut: tuned?.cut ?? head.metadata.cut, preprocessing: preprocessing, batchSize: count, device: device, options: options)
  let width = frozen.featureShape.reduce(1, *)
  var bytes = [UInt8](repeating: 0, count: count * images.sampleByteCount), rows = [Float](repeating: 0, count: count * width)
  try bytes.withUnsafeMutableBytes { try images.write(Array(0..<count), epoch: nil, into: $0) }
  try bytes.withUnsafeBytes { bytes in
    try rows.withUnsafeMutableBufferPointer { try frozen.features(ofBatch: bytes, count: count, into: $0) }
  }
  if let network {
    result = try rows.withUnsafeBytes { try network.logits($0) }
  } else {
    try head.forEachLogits(of: ArrayFeatures(rows, rowCount: count, dimension: width), file: path) { result += $1 }
  }
  return (result, head.metadata)
}

/// The backbone that a head's file goes with.
func backbone(of head: any FeatureClassifier, _ path: String) throws -> Backbone {
  let model = try head.findBackbone(beside: path)
  let backbone = try Backbone(path: model, architecture: ModelConfiguration.read(beside: model).architecture)
  try head.check(backbone, file: path)
  return backbone
}

/// Trains a head for classes together with the last block of its backbone, on the store that the head was trained on.
func tune(head path: String, on store: FeatureStore, output: String, device: any Device) throws {
  try store.requireClasses(for: "fine-tuning here")
  let head = try Head(path: path)
  try head.check(against: store, file: path)
  let backbone = try backbone(of: head, path)
  guard let preprocessing = head.preprocessing, let feature = head.metadata.cut else {
    throw HeadError(file: path, problem: "it does not say what its features are")
  }

  // What stays frozen is computed once, in a store at the new cut.
  let cut = try MovedCut(backbone, feature: feature, preprocessing: preprocessing, unfreezing: .blocks(1)), name = cut.name ?? ""
  let key = FeatureKey(
    backboneSHA256: store.key.backboneSHA256, cut: name, cutShape: cut.shape, preprocessing: store.key.preprocessing, precision: "float32",
    featureType: .float16)
  let cutStore = FineTunedModel.cutStorePath(of: store.path, cut: name)
  let pictures = try ImageFolder(path: ImageInputs.root(of: store, given: nil), samplesOf: store)
  let extraction = try FeatureExtraction(data: pictures, store: cutStore, key: key, preprocessing: preprocessing)
  _ = try extraction.run(computing: {
    try FrozenBackbone(backbone, cut: name, preprocessing: preprocessing, batchSize: 16, device: device)
  })
  let rows = try FeatureStore.open(reading: cutStore), places = try head.places(ofOutputsIn: store)
  func inputs(_ split: String) throws -> StoredInputs {
    let samples = try store.samples(store.samples(split: split), withRowsOf: rows, remedy: "Its pictures have changed: extract them again.")
    return try StoredInputs(rows, samples: samples, labels: samples.map { places[$0.label] })
  }

  let training = try inputs("train"), held = try inputs("val"), validation = held.count > 0 ? held : nil
  var options = TrainingOptions(learningRate: 2e-5, epochs: 10, batchSize: max(1, min(32, training.count)))
  // The objective that the head was fitted to: with another, training would first of all undo the head.
  options.penalties["head.weight"] = try head.tuningPenalty(training: StoreFeatures(store, samples: store.samples(split: "train"))) { "row \($0)" }
  let base = FineTunedModel(head: head, cut: cut.name, parameters: [:])
  let network = base.network(backbone, preprocessing: preprocessing, unfreezing: .blocks(1))
  let program = try TrainingProgram(network, options: options, device: device)
  let trainer = try Trainer(program, training: training, validation: validation)
  trainer.keepsInitial = true
  let tensors = try trainer.run()
  var tuned = try base.replacing(tensors, precision: .float32, metrics: [:])
  if let validation {
    try program.restore(tensors)
    tuned = try tuned.calibrated(logits: program.outputs(of: validation), labels: validation.labels)
  }
  try tuned.check(against: rows, file: output)
  try tuned.write(to: output)
}

/// A line for each picture, of the most likely class.
func show(_ pictures: [String], head path: String, device: any Device) throws {
  let (values, metadata) = try logits(of: pictures, head: path, device: device), width = metadata.classes.count
  for (place, picture) in pictures.enumerated() {
    let found = try ImagePrediction(
      path: picture, logits: values[place * width..<(place + 1) * width], classes: metadata.classes, topK: 1, temperature: metadata.temperature)
    for said in found.predictions { print("\(path): \(picture): \(said.label) \(said.probability)") }
  }
}

@main struct PredictAndTune {
  static func main() {
    let arguments = CommandLine.arguments
    guard arguments.count > 4 else {
      print("usage: predict-and-tune STORE HEAD.safetensors TUNED.safetensors PICTURE...")
      exit(64)
    }
    do {
      let store = try FeatureStore.open(reading: arguments[1]), device = try Devices.choose("auto")
      let (head, tuned, pictures) = (arguments[2], arguments[3], Array(arguments[4...]))
      try train(on: store, output: head, device: device)
      try show(pictures, head: head, device: device)
      try tune(head: head, on: store, output: tuned, device: device)
      try show(pictures, head: tuned, device: device)
    } catch {
      FileHandle.standardError.write(Data("error: \(error)\n".utf8))
      exit(65)
    }
  }
}
