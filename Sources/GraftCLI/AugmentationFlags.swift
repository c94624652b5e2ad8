import ArgumentParser
import Foundation
import Graft

/// How pictures are changed at random: the same for every command that draws views of them.
struct AugmentationFlags: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      How pictures are changed at random, for networks to generalise: none; light (mirror, crop a little); standard (mirror, show \
      8 to 100 % of the picture); strong (standard, two operations of RandAugment, erase). Inputs of up to 64 pixels are moved \
      instead of cropped.
      """, valueName: "none|light|standard|strong")) var augment: Augmentation.Preset?
  @Flag(inversion: .prefixedNo, help: "Mirror half of the pictures.") var flip: Bool?
  @Option(help: ArgumentHelp("Show a part of this area, as 0.08,1; 1,1: the middle as it is looked at.", valueName: "min,max")) var cropScale:
    NumberList?
  @Option(help: ArgumentHelp("Move pictures by up to so many pixels of the input; black comes in.", valueName: "pixels")) var pad: Int?
  @Option(
    help: ArgumentHelp("How far brightness, contrast, saturation and hue may move, as 0.4,0.4,0.4,0.1.", valueName: "b,c,s,h")) var jitter:
    NumberList?
  @Option(help: ArgumentHelp("RandAugment: draw N operations a picture, of strength M of 10, as 2,9; 0,0: none.", valueName: "n,m"))
  var randaugment: NumberList?
  @Option(help: ArgumentHelp("Paint a rectangle over this share of the pictures.", valueName: "share")) var erase: Double?

  func validate() throws {
    if let values = cropScale?.values {
      guard values.count == 2, 0 < values[0], values[0] <= values[1], values[1] <= 1 else {
        throw ValidationError("--crop-scale takes two shares of the picture's area, as 0.08,1.")
      }
    }
    if let pad, !(0...4096).contains(pad) { throw ValidationError("--pad takes 0 to 4096 pixels, not \(pad).") }
    if let values = jitter?.values {
      guard values.count == 4, values.allSatisfy({ $0 >= 0 && $0 <= 100 }), values[3] <= 0.5 else {
        throw ValidationError("--jitter takes four numbers from 0, as 0.4,0.4,0.4,0.1; the last, of the hue, is at most 0.5.")
      }
    }
    if let values = randaugment?.values {
      guard values.count == 2, (0...100).contains(values[0]), values[0] == values[0].rounded(), (0...10).contains(values[1]) else {
        throw ValidationError("--randaugment takes a count and a strength of 0 to 10, as 2,9.")
      }
    }
    if let erase, !(0...1).contains(erase) { throw ValidationError("--erase takes a share from 0 to 1, not \(erase).") }
  }

  /// Whether any was given.
  var isGiven: Bool {
    augment != nil || flip != nil || cropScale != nil || pad != nil || jitter != nil || randaugment != nil || erase != nil
  }

  /// The preset, and over it what was given.
  func augmentation(default preset: Augmentation.Preset, for preprocessing: Preprocessing) -> Augmentation {
    var augmentation = Augmentation(augment ?? preset, width: preprocessing.width, height: preprocessing.height)
    if let flip { augmentation.flip = flip }
    if let values = cropScale?.values { augmentation.cropScale = values[0] == 1 ? nil : values[0]...values[1] }
    if let pad { augmentation.padding = pad }
    if let values = jitter?.values {
      augmentation.jitter =
        values.allSatisfy { $0 == 0 } ? nil : ColorJitter(brightness: values[0], contrast: values[1], saturation: values[2], hue: values[3])
    }
    if let values = randaugment?.values {
      augmentation.randAugment = values[0] == 0 ? nil : RandAugment(count: Int(values[0]), magnitude: values[1])
    }
    if let erase { augmentation.erasing = erase }
    return augmentation
  }
}

/// How pictures of a batch are mixed.
struct MixingFlags: ParsableArguments {
  @Option(help: ArgumentHelp("Mix pictures of a batch with each other by shares of Beta(A, A), as 0.2; 0: not.", valueName: "a")) var mixup = 0.0
  @Option(help: ArgumentHelp("Put rectangles of pictures into others, of areas by Beta(A, A), as 1; 0: not.", valueName: "a")) var cutmix = 0.0

  func validate() throws {
    for (name, value) in [("mixup", mixup), ("cutmix", cutmix)] {
      guard (0...1000).contains(value) else { throw ValidationError("--\(name) takes a number from 0 (not at all), as 0.2, not \(value).") }
    }
  }

  var mixing: Mixing { Mixing(mixup: mixup, cutmix: cutmix) }
}

/// Numbers with commas between them.
struct NumberList: ExpressibleByArgument {
  let values: [Double]

  init?(argument: String) {
    let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0.trimmingCharacters(in: .whitespaces)) }
    guard values.allSatisfy({ $0?.isFinite == true }) else { return nil }
    self.values = values.compactMap(\.self)
  }
}

extension Augmentation.Preset: ExpressibleByArgument {}
