/// A tensor in host memory: a shape, a number format and bytes that are shared, never copied, when the value is.
///
/// Elements are row-major, without gaps. The bytes may be part of a mapped file.
public struct HostTensor: Sendable {
  /// Extents, outermost first; empty for a scalar.
  public let shape: [Int]
  public let elementType: ElementType
  package let storage: HostBytes
  /// Where in `storage` the first element lies.
  package let byteOffset: Int

  public var elementCount: Int { shape.reduce(1, *) }
  public var byteCount: Int { elementCount * elementType.byteCount }

  /// A tensor over bytes that exist already.
  ///
  /// - Throws: `TensorError` if an extent is negative, the product overflows, or the bytes do not suffice.
  public init(shape: [Int], elementType: ElementType, storage: HostBytes, byteOffset: Int = 0) throws {
    let needed = try TensorError.byteCount(shape: shape, elementType: elementType)
    guard byteOffset >= 0, byteOffset <= storage.count, needed <= storage.count - byteOffset else {
      throw TensorError(
        message: "a tensor of shape \(shape) in \(elementType) needs \(needed) bytes, and \(max(0, storage.count - byteOffset)) are there")
    }
    (self.shape, self.elementType, self.storage, self.byteOffset) = (shape, elementType, storage, byteOffset)
  }

  /// A float32 tensor. Our own invariant: the count fits the shape.
  public init(_ shape: [Int], _ values: [Float]) {
    precondition(values.count == shape.reduce(1, *), "\(values.count) values for shape \(shape)")
    self.init(shape: shape, elementType: .float32, copying: values)
  }

  /// An int64 tensor. Our own invariant: the count fits the shape.
  public init(_ shape: [Int], integers values: [Int64]) {
    precondition(values.count == shape.reduce(1, *), "\(values.count) values for shape \(shape)")
    self.init(shape: shape, elementType: .int64, copying: values)
  }

  private init<Element: BitwiseCopyable>(shape: [Int], elementType: ElementType, copying values: [Element]) {
    self.shape = shape
    self.elementType = elementType
    self.byteOffset = 0
    self.storage = values.withUnsafeBytes { source in HostBytes(count: source.count) { $0.copyMemory(from: source) } }
  }

  /// The elements' bytes, for as long as `body` runs.
  public func withUnsafeBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
    let (offset, count) = (byteOffset, byteCount)
    return try storage.withUnsafeBytes { bytes throws(Failure) in try body(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])) }
  }

  /// The same elements under another shape. Our own invariant: the count is the same.
  public func reshaped(_ shape: [Int]) -> HostTensor {
    precondition(shape.reduce(1, *) == elementCount, "cannot view \(self.shape) as \(shape)")
    return HostTensor(unchecked: shape, elementType, storage, byteOffset)
  }

  init(unchecked shape: [Int], _ elementType: ElementType, _ storage: HostBytes, _ byteOffset: Int) {
    (self.shape, self.elementType, self.storage, self.byteOffset) = (shape, elementType, storage, byteOffset)
  }

  /// Gives memory back that only repeats a mapped file.
  package func evict() { storage.evict(byteOffset..<byteOffset + byteCount) }

  /// The elements of each channel times its scale, in double precision, as float32; channels are the first dimension or the last.
  package func scaled(by scale: [Double], channelsFirst: Bool) -> HostTensor {
    guard elementType == .float32 else { return HostTensor(shape, floats()).scaled(by: scale, channelsFirst: channelsFirst) }
    // [outer, channels, inner], one of the outer and inner extents being 1.
    let rest = elementCount / max(1, scale.count)
    let (outer, inner) = channelsFirst ? (1, rest) : (rest, 1)
    let bytes = HostBytes(count: byteCount) { target in
      withUnsafeBytes { source in
        var offset = 0
        for _ in 0..<outer {
          for factor in scale {
            for _ in 0..<inner {
              let value = Double(source.loadUnaligned(fromByteOffset: offset, as: Float.self))
              target.storeBytes(of: Float(value * factor), toByteOffset: offset, as: Float.self)
              offset += 4
            }
          }
        }
      }
    }
    return HostTensor(unchecked: shape, .float32, bytes, 0)
  }

  /// Every element as `Float`, rounded to nearest.
  public func floats() -> [Float] {
    if elementType == .float32 { return load(Float.self) { $0 } }
    return doubles().map(Float.init)
  }

  /// Every element as `Double`; exact except for 64-bit integers beyond 2^53.
  public func doubles() -> [Double] {
    switch elementType {
    case .float64: load(Double.self) { $0 }
    case .float32: load(Float.self) { Double($0) }
    case .float16: load(UInt16.self) { Double(HalfPrecision.float(fromHalf: $0)) }
    case .bfloat16: load(UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
    case .int64: load(Int64.self) { Double($0) }
    case .int32: load(Int32.self) { Double($0) }
    case .int16: load(Int16.self) { Double($0) }
    case .int8: load(Int8.self) { Double($0) }
    case .uint64: load(UInt64.self) { Double($0) }
    case .uint32: load(UInt32.self) { Double($0) }
    case .uint16: load(UInt16.self) { Double($0) }
    case .uint8: load(UInt8.self) { Double($0) }
    case .bool: load(UInt8.self) { $0 == 0 ? 0 : 1 }
    }
  }

  /// Every element as `Int64`; floating-point formats are truncated towards zero, and what does not fit becomes 0.
  public func integers() -> [Int64] {
    switch elementType {
    case .int64: load(Int64.self) { $0 }
    case .uint64: load(UInt64.self) { Int64(clamping: $0) }
    default: doubles().map { Int64(exactly: $0.rounded(.towardZero)) ?? 0 }
    }
  }

  private func load<Stored: BitwiseCopyable, Result>(_: Stored.Type, _ transform: (Stored) -> Result) -> [Result] {
    withUnsafeBytes { bytes in
      (0..<elementCount).map { transform(bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Stored>.stride, as: Stored.self)) }
    }
  }
}

/// A shape and bytes that do not belong together.
public struct TensorError: Error, CustomStringConvertible {
  public let message: String
  public var description: String { message }

  public init(message: String) { self.message = message }

  /// More than any tensor has, and so few that sums and products with strides and padding stay far from overflow.
  private static let largestCount = 1 << 40

  /// Bytes of a tensor, checked for overflow and for negative extents.
  ///
  /// Every part of an accepted shape has a product that fits as well, also beside an extent of 0.
  public static func byteCount(shape: [Int], elementType: ElementType) throws(TensorError) -> Int {
    var count = 1
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: max(1, extent))
      guard extent >= 0, !overflow, product <= largestCount else { throw TensorError(message: "shape \(shape) is not one a tensor can have") }
      count = product
    }
    return shape.contains(0) ? 0 : count * elementType.byteCount
  }
}
