import Foundation
import GraftGraph

/// How the views in a store are drawn: view 0 is the picture as it is looked at, the others follow from the picture's content, the
/// view's number and the seed. The same picture always has the same views, whatever its name and whenever it came.
public struct StoredViews: Sendable, Hashable, Codable {
  public var augmentation: Augmentation
  public var seed: UInt64

  public init(augmentation: Augmentation, seed: UInt64 = 0) { (self.augmentation, self.seed) = (augmentation, seed) }

  /// Reads what `canonicalJSON` gave; `nil` for anything else.
  public init?(json: String) {
    guard let views = try? JSONDecoder().decode(StoredViews.self, from: Data(json.utf8)) else { return nil }
    self = views
  }

  /// Equal texts draw equal views.
  public var canonicalJSON: String { "{\"augmentation\":\(augmentation.canonicalJSON),\"seed\":\(seed)}" }

  /// What view `number` of a content is drawn by.
  package func seed(ofView number: Int, contentHash: String) -> UInt64 {
    var generator = SplitMix(seed ^ (UInt64(contentHash.prefix(16), radix: 16) ?? 0) ^ UInt64(number) &* 0x94D0_49BB_1331_11EB)
    return generator.next()
  }

  /// Writes `count` views, one after the other: [count, height, width, 3].
  func draw(_ image: DecodedImage, count: Int, contentHash: String, preprocessing: Preprocessing, into target: UnsafeMutableBufferPointer<UInt8>) {
    let size = preprocessing.byteCount
    for view in 0..<count {
      let own = UnsafeMutableBufferPointer(rebasing: target[view * size..<(view + 1) * size])
      if view == 0 {
        preprocessing.apply(to: image, into: own)
      } else {
        augmentation.draw(image, preprocessing: preprocessing, seed: seed(ofView: view, contentHash: contentHash), into: own)
      }
    }
  }
}
