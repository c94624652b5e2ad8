import ArgumentParser
import Foundation
import Graft

/// The backbone, its cut and what images go through before it.
struct PreprocessingOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Height and width of the network's input (default: from the JSON file beside the model).", valueName: "pixels"))
  var inputSize: Int?
  @Option(help: ArgumentHelp("The filter of the resize: bilinear, bicubic, nearest, box, hamming or lanczos.", valueName: "filter"))
  var interpolation: String?
  @Option(help: ArgumentHelp("The part of the resized short side that the centre crop takes.", valueName: "ratio")) var cropPct: Double?
  @Option(help: ArgumentHelp("Mean of red, green and blue, where full intensity is 1: R,G,B.", valueName: "r,g,b")) var mean: String?
  @Option(help: ArgumentHelp("Standard deviation, likewise.", valueName: "r,g,b")) var std: String?
  @Option(help: ArgumentHelp("Which colour the network takes first: rgb, or bgr as those do that Caffe trained.", valueName: "rgb|bgr"))
  var channelOrder: String?
  @Option(help: ArgumentHelp("Composite transparent pictures over this colour (#rrggbb); by default alpha is dropped.", valueName: "colour"))
  var background: String?
  @Flag(help: "Turn pictures as the orientation in their EXIF block, not XMP's, says; by default it is ignored, as torchvision does.")
  var exif = false
  @Option(help: ArgumentHelp("Refuse pictures of more pixels than this.", valueName: "count")) var maxPixels = ImageDecoder.defaultPixelLimit

  func validate() throws {
    if maxPixels < 1 { throw ValidationError("--max-pixels takes a positive number, not \(maxPixels).") }
    _ = try fields()
  }

  /// What the flags say.
  func fields() throws -> PreprocessingFields {
    func triple(_ text: String?, _ flag: String) throws -> [Double]? {
      guard let text else { return nil }
      let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { Double($0.trimmingCharacters(in: .whitespaces)) }
      guard numbers.count == 3, !numbers.contains(nil) else {
        throw ValidationError("--\(flag) takes three numbers, as 0.485,0.456,0.406, not '\(text)'.")
      }
      return numbers.compactMap(\.self)
    }
    var filter: Interpolation?
    if let interpolation {
      guard let known = Interpolation(rawValue: interpolation) else {
        throw ValidationError("--interpolation takes \(Interpolation.allCases.map(\.rawValue).joined(separator: ", ")), not '\(interpolation)'.")
      }
      filter = known
    }
    var order: Preprocessing.ChannelOrder?
    if let channelOrder {
      guard let known = Preprocessing.ChannelOrder(rawValue: channelOrder) else {
        throw ValidationError("--channel-order takes rgb or bgr, not '\(channelOrder)'.")
      }
      order = known
    }
    var color: RGBColor?
    if let background {
      guard let known = RGBColor(background) else { throw ValidationError("--background takes a colour as #ffffff, not '\(background)'.") }
      color = known
    }
    return PreprocessingFields(
      inputSize: inputSize.map { [3, $0, $0] }, interpolation: filter, cropPct: cropPct, mean: try triple(mean, "mean"), std: try triple(std, "std"),
      background: color, exif: exif ? true : nil, channelOrder: order)
  }

  /// The preprocessing for a backbone: flags, else the file beside it, else what its architecture was trained with.
  func resolve(_ backbone: Backbone, _ configuration: ModelConfiguration) throws -> Preprocessing {
    var known = configuration.fields
    if let trained = backbone.trainedPreprocessing {
      known = known.over(
        PreprocessingFields(
          inputSize: [trained.channels, trained.height, trained.width], interpolation: Interpolation(rawValue: trained.interpolation.rawValue),
          cropPct: trained.cropFraction, mean: trained.mean, std: trained.standardDeviation))
    }
    // What a model file says of its own input.
    if case (let height?, let width?) = backbone.imageSize {
      known = known.over(PreprocessingFields(inputSize: [3, height, width]))
    }
    return try resolve(over: known)
  }

  /// The flags, and what is known where they say nothing.
  ///
  /// - Throws: `ValidationError` for a value that a flag has given; `PreprocessingError`.
  func resolve(over known: PreprocessingFields) throws -> Preprocessing {
    do {
      return try fields().over(known).resolved()
    } catch let error as PreprocessingError {
      let isGiven = ["input_size": inputSize != nil, "crop_pct": cropPct != nil, "mean": mean != nil, "std": std != nil || mean != nil]
      guard isGiven[error.field] == true else { throw error }
      throw ValidationError(error.description)
    }
  }
}

/// How large the images are that a model runs on, where pictures do not say.
struct ImageSizeOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Height and width of the images, where the model leaves them open.", valueName: "pixels")) var inputSize: Int?

  func validate() throws {
    if let inputSize, !(1...Preprocessing.longestInputSide).contains(inputSize) {
      throw ValidationError("--input-size takes 1 to \(Preprocessing.longestInputSide) pixels, not \(inputSize).")
    }
  }

  /// The shape of a batch, [N, C, H, W].
  ///
  /// - Throws: `ImportError` if nothing says how large its images are.
  func shape(of backbone: Backbone, _ configuration: ModelConfiguration, batchSize: Int) throws -> [Int] {
    let fields = configuration.fields
    let shape = try backbone.imageShape(batchSize: batchSize, height: inputSize ?? fields.inputHeight, width: inputSize ?? fields.inputWidth)
    if let inputSize, shape[2...] != [inputSize, inputSize] {
      throw ImportError(
        file: backbone.path, what: "it takes images of \(shape[2]) × \(shape[3]) pixels, and \(inputSize) were asked for",
        remedy: "Leave out --input-size, or export the model with open sizes.")
    }
    return shape
  }
}

/// A backbone and the configuration beside it.
func loadBackbone(_ path: String, _ console: Console) throws -> (Backbone, ModelConfiguration) {
  let configuration = try ModelConfiguration.read(beside: path)
  let backbone = try Backbone(path: path, architecture: configuration.architecture)
  for assumption in backbone.assumptions where configuration.architecture == nil { console.warn(assumption) }
  return (backbone, configuration)
}
