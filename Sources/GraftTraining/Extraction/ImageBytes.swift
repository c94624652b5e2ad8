import GraftData
import GraftGraph

extension Graph {
  /// The graph with its input `[N, 3, H, W]` replaced by the bytes of prepared pictures, `[N, H, W, 3]`.
  func takingImageBytes(_ preprocessing: Preprocessing) throws -> Graph {
    try takingImageBytes(scale: preprocessing.scale, shift: preprocessing.shift, reversesChannels: preprocessing.channelOrder == .bgr)
  }
}
