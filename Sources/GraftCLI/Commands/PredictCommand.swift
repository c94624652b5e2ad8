import ArgumentParser
import Foundation
import Graft

struct PredictCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "Name what pictures show.",
    discussion: """
      The backbone is looked for where --backbone says, else beside the head, else where a store of the head's features \
      found it; its hash must be the one the head was trained with.
      """)

  @Argument(help: "The head's file.") var head: String
  @Argument(help: "Pictures.") var images: [String]
  @Option(help: ArgumentHelp("The backbone's file.", valueName: "model")) var backbone: String?
  @Option(help: ArgumentHelp("How many classes to name.", valueName: "count")) var topK = 5
  @Option(help: "Pictures computed at a time.") var batchSize = 16
  @Option(help: ArgumentHelp("Refuse pictures of more pixels than this.", valueName: "count")) var maxPixels = ImageDecoder.defaultPixelLimit
  @Option(
    help: ArgumentHelp(
      "Number format of the backbone's weights and activations (default: the one the head's features were computed in).", valueName: "format"))
  var precision: Precision?
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard !images.isEmpty else { throw ValidationError("Name at least one picture.") }
    guard topK > 0 else { throw ValidationError("--top-k takes a positive number, not \(topK).") }
    guard batchSize > 0 else { throw ValidationError("--batch-size takes a positive number, not \(batchSize).") }
  }

  func execute() throws {
    let console = output.console
    let head = try Head(path: self.head)
    guard let hash = head.metadata.backboneSHA256, let text = head.metadata.preprocessing, let cut = head.metadata.cut else {
      throw HeadError(
        file: self.head, problem: "it was trained on imported features, so there is no backbone to show pictures to",
        remedy: "Train a head on a store that 'graft extract' made.")
    }
    guard let preprocessing = try? JSONDecoder().decode(Preprocessing.self, from: Data(text.utf8)) else {
      throw HeadError(file: self.head, problem: "its preprocessing makes no sense: \(text)")
    }
    let path = try findBackbone(head, hash: hash)
    let (model, _) = try loadBackbone(path, console)
    guard try model.hash() == hash else {
      throw HeadError(file: self.head, problem: "it was trained with another backbone than \(path)", remedy: "Name the right one with --backbone.")
    }
    let device = try computing.make(console)
    let batch = min(batchSize, images.count)
    let frozen = try FrozenBackbone(
      model, cut: cut, preprocessing: preprocessing, batchSize: batch, device: device,
      options: computing.planOptions(precision ?? head.metadata.precision ?? .float32))
    let decoder = preprocessing.decoder(pixelLimit: maxPixels)
    let backend = DeviceLinearBackend(device: device)
    let width = frozen.featureShape.reduce(1, *)
    var predictions: [ImagePrediction] = []
    for first in stride(from: 0, to: images.count, by: batch) {
      let part = images[first..<min(first + batch, images.count)]
      var bytes = [UInt8](repeating: 0, count: part.count * preprocessing.byteCount)
      for (index, image) in part.enumerated() {
        let decoded = try decoder.decode(path: image)
        bytes.withUnsafeMutableBufferPointer {
          preprocessing.apply(
            to: decoded, into: UnsafeMutableBufferPointer(rebasing: $0[index * preprocessing.byteCount..<(index + 1) * preprocessing.byteCount]))
        }
      }
      var features = [Float](repeating: 0, count: part.count * width)
      try bytes.withUnsafeBytes { bytes in
        try features.withUnsafeMutableBufferPointer { try frozen.features(ofBatch: bytes, count: part.count, into: $0) }
      }
      let source = try ArrayFeatures(features, rowCount: part.count, dimension: width)
      try head.forEachLogits(of: source, file: self.head, backend: backend) { row, logits in
        for offset in 0..<logits.count / head.classCount {
          predictions.append(
            try ImagePrediction(
              path: part[part.startIndex + row + offset], logits: logits[offset * head.classCount..<(offset + 1) * head.classCount],
              classes: head.metadata.classes, topK: min(topK, head.classCount)))
        }
      }
    }
    for prediction in predictions {
      console.result(prediction.path)
      console.result(
        tableText(prediction.predictions.map { ["  " + String(format: "%5.1f %%", $0.probability * 100), $0.label] }))
    }
    try console.object(predictions)
  }

  /// The backbone's file: as told, beside the head, or where it was when the head was trained.
  private func findBackbone(_ head: Head, hash: String) throws -> String {
    if let backbone { return backbone }
    let folder = URL(fileURLWithPath: self.head).deletingLastPathComponent()
    var places: [String] = []
    if let name = head.metadata.backboneFile { places.append(folder.appendingPathComponent(name).path) }
    if let path = head.metadata.backbonePath { places.append(path) }
    for place in places where FileManager.default.fileExists(atPath: place) { return place }
    throw HeadError(
      file: self.head, problem: "its backbone \(head.metadata.backboneFile ?? "") is not found (looked at \(places.joined(separator: ", ")))",
      remedy: "Name it with --backbone.")
  }
}
