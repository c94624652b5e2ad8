import GraftGraph

extension HostTensor {
  /// The same numbers rounded to float16.
  func float16() -> HostTensor {
    let values = floats()
    let bytes = HostBytes(count: values.count * 2) { target in
      for (index, value) in values.enumerated() {
        target.storeBytes(of: HalfPrecision.half(fromFloat: value).littleEndian, toByteOffset: 2 * index, as: UInt16.self)
      }
    }
    // Always: the bytes are as many as the shape needs.
    return (try? HostTensor(shape: shape, elementType: .float16, storage: bytes)) ?? self
  }
}
