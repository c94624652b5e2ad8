import GraftData
import GraftGraph
import Testing

/// Every operation on pixels gives Pillow's bytes, without any tolerance.
@Suite struct PixelOperationTests {
  @Test(arguments: ViewFixtures.all.cases)
  func equalsPillow(_ example: ViewFixtures.OperationCase) throws {
    let fixtures = ViewFixtures.all, operation = try example.make()
    let result = fixtures.pictures[example.picture].changed { operation.apply(to: $0, fill: RGBColor(red: 124, green: 116, blue: 104)) }
    let expected = fixtures.expected(width: example.width, height: example.height, offset: example.offset)
    let different = zip(result, expected).filter { $0 != $1 }
    #expect(different.isEmpty, "\(different.count) bytes differ, first \(different.first.map { "\($0)" } ?? "")")
  }

  @Test func everyOperationHasItsCases() {
    let names = Set(ViewFixtures.all.cases.map(\.name))
    #expect(names.count == 16 && ViewFixtures.all.cases.count == 5 * 68, "\(names.count) operations, \(ViewFixtures.all.cases.count) cases")
  }

  @Test func croppedPartsAreResizedAsByPillow() {
    let fixtures = ViewFixtures.all
    #expect(!fixtures.crops.isEmpty)
    for example in fixtures.crops {
      var bytes = [UInt8](repeating: 0, count: example.width * example.height * 3)
      let box = RandomCrop.Box(x: example.box[0], y: example.box[1], width: example.box[2], height: example.box[3])
      bytes.withUnsafeMutableBufferPointer {
        RandomCrop.resize(
          fixtures.pictures[example.picture], box, example.interpolation, into: ViewPixels(width: example.width, height: example.height, bytes: $0))
      }
      #expect(bytes.elementsEqual(fixtures.expected(width: example.width, height: example.height, offset: example.offset)), "\(example)")
    }
  }

  @Test func flipsShiftsAndFills() throws {
    let pixels: [UInt8] = (1...6).flatMap { (value: UInt8) -> [UInt8] in [value, value * 10, value * 20] }
    let image = try #require(DecodedImage(width: 3, height: 2, pixels: pixels))
    func reds(_ bytes: [UInt8]) -> [UInt8] { stride(from: 0, to: bytes.count, by: 3).map { bytes[$0] } }
    #expect(reds(image.changed { $0.flip() }) == [3, 2, 1, 6, 5, 4])
    #expect(reds(image.changed { $0.shift(x: 1, y: 0) }) == [2, 3, 0, 5, 6, 0])
    #expect(reds(image.changed { $0.shift(x: -1, y: 1) }) == [0, 4, 5, 0, 0, 0])
    #expect(reds(image.changed { $0.shift(x: 9, y: -9) }) == [0, 0, 0, 0, 0, 0])
    #expect(reds(image.changed { $0.fill(x: 1, y: 0, width: 2, height: 1, RGBColor(red: 9, green: 9, blue: 9)) }) == [1, 9, 9, 4, 5, 6])
  }

  /// timm's ranges of arguments, at both ends of the levels.
  @Test func levelsHaveTheirRanges() {
    var random = SplitMix(1)
    func operations(_ kind: RandAugment.Kind, _ level: Double) -> [PixelOperation] {
      (0..<40).map { _ in RandAugment.operation(kind, level: level, width: 100, height: 50, using: &random) }
    }
    #expect(operations(.posterize, 0).allSatisfy { $0 == .posterize(bits: 4) })
    #expect(operations(.posterize, 10).allSatisfy { $0 == .posterize(bits: 0) })
    #expect(operations(.solarize, 0).allSatisfy { $0 == .solarize(threshold: 256) })
    #expect(operations(.solarize, 9).allSatisfy { $0 == .solarize(threshold: 26) })
    #expect(operations(.solarizeAdd, 10).allSatisfy { $0 == .solarizeAdd(110) })
    let brightness = operations(.brightness, 10)
    #expect(brightness.contains(.brightness(0.1)) && brightness.contains(.brightness(1.9)) && Set(brightness.map { "\($0)" }).count == 2)
    let shears = operations(.shearX, 10)
    #expect(shears.contains(.warp(.shearX(0.3), .bicubic)) && shears.contains(.warp(.shearX(-0.3), .bilinear)))
    #expect(operations(.translateY, 10).contains(.warp(.shift(x: 0, y: 22.5), .bilinear)))
    #expect(operations(.rotate, 10).contains(.warp(.rotation(degrees: -30, width: 100, height: 50), .bilinear)))
  }
}
