import Foundation
import GraftData
import Testing

@Suite struct PreprocessingTests {
  static let fields = PreprocessingFields(
    inputSize: [3, 224, 224], interpolation: .bicubic, cropPct: 0.875, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.5])

  @Test("resize and crop are torchvision's and timm's", arguments: ImageFixtures.shared.preprocess)
  func parity(of step: ImageFixtures.PreprocessCase) throws {
    let preprocessing = try step.fields.over(Self.fields).resolved()
    let source = Noise.image(width: step.source.sourceWidth, height: step.source.sourceHeight, seed: step.source.seed)
    let result = preprocessing.apply(to: source)
    let (largest, count) = difference(result, ImageFixtures.shared.pixels(step.source.result))
    #expect(largest == 0, "\(count) bytes differ, by up to \(largest)")
  }

  @Test("bytes become (x / 255 − mean) / std")
  func normalisation() throws {
    let preprocessing = try Self.fields.resolved()
    for channel in 0..<3 {
      for byte in [0, 1, 128, 255] {
        let expected = (Double(byte) / 255 - preprocessing.mean[channel]) / preprocessing.std[channel]
        #expect(abs(Double(Float(byte) * preprocessing.scale[channel] + preprocessing.shift[channel]) - expected) < 1e-6)
      }
    }
  }

  @Test(
    "values that make no sense are named",
    arguments: [
      ("input_size", PreprocessingFields(inputSize: [3, 0, 224])), ("input_size", PreprocessingFields(inputSize: [1, 224, 224])),
      ("input_size", PreprocessingFields(inputSize: [3, 224])), ("input_size", PreprocessingFields(inputSize: [3, Int.max, 2])),
      ("input_size", PreprocessingFields(inputSize: [])), ("crop_pct", PreprocessingFields(cropPct: 0)),
      ("crop_pct", PreprocessingFields(cropPct: -1)),
      ("crop_pct", PreprocessingFields(cropPct: .nan)), ("crop_pct", PreprocessingFields(cropPct: 1e-300)),
      ("crop_pct", PreprocessingFields(cropPct: 1000)),
      ("std", PreprocessingFields(std: [0.2, 0, 0.2])), ("std", PreprocessingFields(std: [0.2, 0.2])),
      ("std", PreprocessingFields(std: [1, 1, 1e-300])),
      ("mean", PreprocessingFields(mean: [])), ("mean", PreprocessingFields(mean: [.infinity, 0, 0])),
    ])
  func refused(field: String, fields: PreprocessingFields) {
    let error = #expect(throws: PreprocessingError.self) { try fields.over(Self.fields).resolved() }
    #expect(error?.field == field)
    #expect(error?.description.contains("--" + field.replacing("_", with: "-")) == true)
  }

  @Test("what is missing is named")
  func missing() {
    let error = #expect(throws: PreprocessingError.self) { try PreprocessingFields(interpolation: .bicubic, std: [1, 1, 1]).resolved() }
    #expect(error?.description.contains("input_size, crop_pct, mean") == true)
  }

  @Test("the canonical form is stable, complete and read back")
  func canonical() throws {
    let preprocessing = try Self.fields.resolved()
    #expect(
      preprocessing.canonicalJSON
        == #"{"crop_mode":"center","crop_pct":0.875,"exif":false,"input_size":[3,224,224],"interpolation":"bicubic","mean":[0.5,0.4,0.3],"std":[0.2,0.25,0.5]}"#
    )
    #expect(try JSONDecoder().decode(Preprocessing.self, from: Data(preprocessing.canonicalJSON.utf8)) == preprocessing)
    let changes: [PreprocessingFields] = [
      .init(inputSize: [3, 224, 225]), .init(interpolation: .bilinear), .init(cropPct: 0.9), .init(cropMode: .squash), .init(mean: [0.5, 0.4, 0.31]),
      .init(std: [0.2, 0.25, 0.51]), .init(background: RGBColor("white")), .init(exif: true), .init(channelOrder: .bgr),
      .init(cropRounding: .zero), .init(cropRounding: .down),
    ]
    let forms = try changes.map { try $0.over(Self.fields).resolved().canonicalJSON } + [preprocessing.canonicalJSON]
    #expect(Set(forms).count == forms.count)
    let bad = Data(preprocessing.canonicalJSON.replacing("0.875", with: "0").utf8)
    #expect(throws: PreprocessingError.self) { try JSONDecoder().decode(Preprocessing.self, from: bad) }
  }

  @Test("the decoder has the preprocessing's options")
  func decoder() throws {
    let preprocessing = try PreprocessingFields(background: RGBColor("black"), exif: true).over(Self.fields).resolved()
    #expect(preprocessing.decoder(pixelLimit: 5) == ImageDecoder(pixelLimit: 5, background: RGBColor("black"), appliesEXIFOrientation: true))
  }

  @Test("sizes that would be beyond bounds stay within them")
  func extremes() throws {
    let preprocessing = try PreprocessingFields(inputSize: [3, 8, 8]).over(Self.fields).resolved()
    for (width, height) in [(DecodedImage.longestSide, 1), (1, DecodedImage.longestSide), (1, 1)] {
      guard let image = DecodedImage(width: width, height: height, pixels: [UInt8](repeating: 90, count: width * height * 3)) else { continue }
      #expect(preprocessing.apply(to: image).allSatisfy { $0 == 90 })
    }
  }
}
