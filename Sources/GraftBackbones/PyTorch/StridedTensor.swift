import GraftGraph

/// The bytes of one storage: `byteCount` of them from `byteOffset` on.
struct StorageBytes {
  let bytes: HostBytes
  let byteOffset: Int
  let byteCount: Int
}

extension PickledTensor {
  /// Whether the elements lie row-major without gaps; then the tensor can share its storage's bytes.
  var isContiguous: Bool {
    var expected = 1
    for (extent, stride) in zip(shape, strides).reversed() where extent != 1 {
      if stride != expected { return false }
      expected = expected.multipliedReportingOverflow(by: extent).partialValue
    }
    return true
  }

  /// Why this is no tensor that lies inside a storage of `byteCount` bytes, or nil if it is one.
  ///
  /// Nothing here trusts the numbers: they come from a file, and any product or sum of them may overflow.
  func problem(storageByteCount byteCount: Int) -> String? {
    let size = elementType.byteCount
    let needed: Int
    do { needed = try TensorError.byteCount(shape: shape, elementType: elementType) } catch let error { return error.message }
    guard shape.count == strides.count, offset >= 0, strides.allSatisfy({ $0 >= 0 }) else {
      return "its strides \(strides) and offset \(offset) do not fit its shape \(shape)"
    }
    // What repeats elements (an expanded tensor) could ask for any amount of memory.
    guard needed <= byteCount else {
      return "its shape \(shape) in \(elementType) needs \(needed) bytes, and its storage has \(byteCount)"
    }
    if needed == 0 { return nil }
    var last = offset
    for (extent, stride) in zip(shape, strides) {
      let (step, stepOverflow) = (extent - 1).multipliedReportingOverflow(by: stride)
      let (sum, sumOverflow) = last.addingReportingOverflow(step)
      guard !stepOverflow, !sumOverflow else { return "its strides \(strides) lead out of its storage" }
      last = sum
    }
    guard last < byteCount / size else { return "element \(last) of its storage is read, and it has \(byteCount / size)" }
    return nil
  }

  /// The tensor over its storage, shared if contiguous, else copied into row-major order. `problem` must be nil.
  func tensor(in storage: StorageBytes) throws -> HostTensor {
    let size = elementType.byteCount
    if isContiguous || shape.contains(0) {
      let first = shape.contains(0) ? storage.byteOffset : storage.byteOffset + offset * size
      return try HostTensor(shape: shape, elementType: elementType, storage: storage.bytes, byteOffset: first)
    }
    let count = shape.reduce(1, *)
    let copy = storage.bytes.withUnsafeBytes { source in
      let origin = UnsafeRawBufferPointer(rebasing: source[(storage.byteOffset + offset * size)...])
      return HostBytes(count: count * size) { target in
        switch size {
        case 1: gather(UInt8.self, origin, target)
        case 2: gather(UInt16.self, origin, target)
        case 4: gather(UInt32.self, origin, target)
        default: gather(UInt64.self, origin, target)
        }
      }
    }
    return try HostTensor(shape: shape, elementType: elementType, storage: copy)
  }

  /// Writes the elements one after the other, the last index fastest.
  private func gather<Element: BitwiseCopyable>(
    _: Element.Type, _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer
  ) {
    let size = MemoryLayout<Element>.size
    let (inner, innerStride) = (shape[shape.count - 1], strides[strides.count - 1])
    var index = [Int](repeating: 0, count: shape.count - 1)
    var (row, written) = (0, 0)
    while true {
      for column in 0..<inner {
        let element = source.loadUnaligned(fromByteOffset: (row + column * innerStride) * size, as: Element.self)
        target.storeBytes(of: element, toByteOffset: written, as: Element.self)
        written += size
      }
      // The next row: an odometer over the outer indices.
      var axis = index.count - 1
      while axis >= 0 {
        index[axis] += 1
        row += strides[axis]
        if index[axis] < shape[axis] { break }
        row -= strides[axis] * shape[axis]
        index[axis] = 0
        axis -= 1
      }
      if axis < 0 { return }
    }
  }
}
