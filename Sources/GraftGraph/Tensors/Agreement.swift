/// How far one result of a computation lies from another: features in a shorter format beside those in float32.
public struct Agreement: Sendable, Codable {
  /// The largest difference, divided by the largest absolute value of the reference.
  public let relativeError: Double
  /// ‖found − reference‖ / ‖reference‖
  public let normError: Double
  /// The least cosine of the angle between a row found and the same row of the reference; `nil` where a row has none, as beside infinities.
  public let cosine: Double?

  /// Compares rows of `rowLength` numbers. Our own invariant: the counts are equal and `rowLength` divides them.
  ///
  /// Infinite errors and no cosine if a number is found that is none.
  public init(_ found: [Float], reference: [Float], rowLength: Int) {
    precondition(found.count == reference.count && rowLength > 0 && found.count % rowLength == 0)
    var (difference, size, squares, total) = (0.0, 0.0, 0.0, 0.0), least: Double? = 1
    for start in stride(from: 0, to: found.count, by: rowLength) {
      var (product, own, other) = (0.0, 0.0, 0.0)
      for i in start..<start + rowLength {
        let (y, r) = (Double(found[i]), Double(reference[i]))
        difference = max(difference, (y - r).isNaN ? .infinity : abs(y - r))
        size = max(size, abs(r))
        (squares, total) = (squares + (y - r) * (y - r), total + r * r)
        (product, own, other) = (product + y * r, own + y * y, other + r * r)
      }
      let cosine = own == other && own == 0 ? 1 : product / (own * other).squareRoot()
      least = cosine.isNaN ? nil : least.map { min($0, cosine) }
    }
    relativeError = size > 0 && difference.isFinite ? difference / size : difference == 0 ? 0 : .infinity
    normError = squares.isNaN ? .infinity : total > 0 ? (squares / total).squareRoot() : squares == 0 ? 0 : .infinity
    cosine = least
  }
}
