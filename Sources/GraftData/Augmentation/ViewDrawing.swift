/// Draws one view of a picture for training: what `Preprocessing.apply` is for looking at it as it is.
public protocol ViewDrawing: Sendable {
  /// Writes [height, width, 3] bytes.
  ///
  /// - Parameter seed: all that randomness may depend on.
  func draw(_ image: DecodedImage, preprocessing: Preprocessing, seed: UInt64, into target: UnsafeMutableBufferPointer<UInt8>)
}
