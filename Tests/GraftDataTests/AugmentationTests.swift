import GraftData
import GraftGraph
import Testing

/// What is drawn: by the seed alone, and as often as it should be.
@Suite struct AugmentationTests {
  private let image = ViewFixtures.all.pictures[0]

  private func preprocessing(_ side: Int = 16) throws -> Preprocessing {
    try Preprocessing(inputSize: [3, side, side], interpolation: .bilinear, cropPct: 1, mean: [0.5, 0.25, 0.75], std: [0.5, 0.5, 0.5])
  }

  private func draw(_ augmentation: Augmentation, seed: UInt64, of image: DecodedImage? = nil, side: Int = 16) throws -> [UInt8] {
    let preprocessing = try preprocessing(side)
    var bytes = [UInt8](repeating: 77, count: preprocessing.byteCount)
    bytes.withUnsafeMutableBufferPointer { augmentation.draw(image ?? self.image, preprocessing: preprocessing, seed: seed, into: $0) }
    return bytes
  }

  private var everything: Augmentation {
    var augmentation = Augmentation(.strong, width: 224, height: 224)
    (augmentation.padding, augmentation.erasing) = (2, 0.5)
    augmentation.jitter = ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1)
    return augmentation
  }

  @Test func dependsOnTheSeedAlone() throws {
    let first = try (0..<50).map { try draw(everything, seed: $0) }
    #expect(try (0..<50).map { try draw(everything, seed: $0) } == first)
    #expect(Set(first).count == 50)
  }

  @Test func nothingIsThePictureAsItIs() throws {
    #expect(Augmentation().isIdentity && Augmentation(.none, width: 224, height: 224).isIdentity)
    #expect(try draw(Augmentation(), seed: 5) == preprocessing().apply(to: image))
  }

  @Test func halfOfTheViewsAreMirrored() throws {
    var augmentation = Augmentation()
    augmentation.flip = true
    let plain = try preprocessing().apply(to: image)
    let mirrored = try #require(DecodedImage(width: 16, height: 16, pixels: plain)).changed { $0.flip() }
    #expect(plain != mirrored)
    let views = try (0..<1000).map { try draw(augmentation, seed: $0) }
    #expect(views.allSatisfy { $0 == plain || $0 == mirrored })
    // Five standard deviations.
    #expect((421...579).contains(views.count { $0 == mirrored }))
  }

  @Test func cropsCoverThePicture() {
    var random = SplitMix(2)
    let crop = RandomCrop(area: 0.08...1), (width, height) = (37, 53)
    var covered = [Int](repeating: 0, count: width * height)
    var areas: [Double] = [], places = (x: 0.0, y: 0.0)
    for _ in 0..<2000 {
      let box = crop.draw(width: width, height: height, using: &random)
      #expect(box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0 && box.x + box.width <= width && box.y + box.height <= height)
      // The sides are rounded to whole pixels.
      let ratio = Double(box.width) / Double(box.height)
      #expect(ratio > 0.65 && ratio < 1.52)
      places = (places.x + Double(box.x), places.y + Double(box.y))
      areas.append(Double(box.width * box.height) / Double(width * height))
      for y in box.y..<box.y + box.height { for x in box.x..<box.x + box.width { covered[y * width + x] += 1 } }
    }
    #expect(covered.allSatisfy { $0 > 0 })
    #expect((areas.min() ?? 1) < 0.1 && (areas.max() ?? 0) > 0.85)
    // torchvision's own procedure, 40,000 times on a picture of 37 × 53: area 0.4150 of deviation 0.206, x 4.98, y 12.41.
    let mean = areas.reduce(0, +) / 2000
    #expect(abs(mean - 0.415) < 0.023, "\(mean)")
    #expect(abs(places.x / 2000 - 4.98) < 0.6 && abs(places.y / 2000 - 12.41) < 1.1, "\(places)")
  }

  @Test(arguments: [(1, 1), (1, 500), (500, 1), (2, 3)])
  func cropsOfNarrowPicturesAreTheirMiddle(width: Int, height: Int) throws {
    var random = SplitMix(3)
    for _ in 0..<100 {
      let box = RandomCrop(area: 0.9...1).draw(width: width, height: height, using: &random)
      #expect(box.x >= 0 && box.y >= 0 && box.width >= 1 && box.height >= 1 && box.x + box.width <= width && box.y + box.height <= height)
    }
    let narrow = try #require(DecodedImage(width: width, height: height, pixels: [UInt8](repeating: 9, count: width * height * 3)))
    #expect(try draw(everything, seed: 1, of: narrow).count == 768)
    #expect(try draw(everything, seed: 1, of: narrow, side: 1).count == 3)
  }

  @Test func smallInputsAreMoved() throws {
    let small = Augmentation(.standard, width: 32, height: 32), large = Augmentation(.standard, width: 224, height: 224)
    #expect(small.padding == 4 && small.cropScale == nil && small.flip)
    #expect(large.padding == 0 && large.cropScale == 0.08...1 && large.flip)
    // Every offset comes up: 5 × 5 of them.
    var moved = Augmentation()
    moved.padding = 2
    #expect(Set(try (0..<400).map { try draw(moved, seed: $0) }).count == 25)
  }

  @Test func erasesAsOftenAsAskedWithTheMeanColour() throws {
    var augmentation = Augmentation()
    augmentation.erasing = 0.25
    let plain = try preprocessing().apply(to: image)
    var erased = 0
    for seed in 0..<800 as Range<UInt64> {
      let view = try draw(augmentation, seed: seed)
      let changed = stride(from: 0, to: view.count, by: 3).filter { view[$0..<$0 + 3] != plain[$0..<$0 + 3] }
      if !changed.isEmpty { erased += 1 }
      #expect(changed.allSatisfy { view[$0..<$0 + 3] == [128, 64, 191] } && changed.count <= 16 * 16 * 2 / 5)
    }
    #expect((139...261).contains(erased), "\(erased)")
  }

  @Test func jitterStaysWithinItsReach() {
    var random = SplitMix(4), orders: Set<String> = []
    for _ in 0..<500 {
      let operations = ColorJitter(brightness: 0.4, contrast: 0.2, saturation: 2, hue: 0.1).draw(using: &random)
      #expect(operations.count == 4)
      orders.insert(operations.map { "\($0)".prefix(4) }.joined())
      for operation in operations {
        switch operation {
        case .brightness(let x): #expect(x >= 0.6 && x <= 1.4)
        case .contrast(let x): #expect(x >= 0.8 && x <= 1.2)
        case .saturation(let x): #expect(x >= 0 && x <= 3)
        case .hue(let x): #expect(abs(x) <= 0.1)
        default: Issue.record("\(operation) is no jitter")
        }
      }
    }
    #expect(orders.count == 24)
  }

  @Test func randAugmentDrawsEveryOperationHalfOfTheTime() {
    var random = SplitMix(5)
    let views = (0..<2000).map { _ in RandAugment(count: 3, magnitude: 9).draw(width: 32, height: 32, using: &random) }
    let all = views.flatMap(\.self)
    #expect((2800...3200).contains(all.count), "\(all.count)")
    for name in ["autoContrast", "equalize", "invert", "posterize", "solarize(", "solarizeAdd", "saturation", "contrast", "brightness", "sharpness"] {
      #expect((140...260).contains(all.count { "\($0)".hasPrefix(name) }), "\(name)")
    }
    #expect((840...1160).contains(all.count { "\($0)".hasPrefix("warp") }))
  }
}
