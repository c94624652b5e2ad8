import GraftDevice

/// What a plan takes of a device's memory, in bytes, known before anything is allocated.
public struct PlanMemory: Sendable, Equatable {
  /// The arena: values between operations, and their scratch.
  public var activations = 0
  /// Packed weights, and constants that kernels read as they are.
  public var weights = 0
  /// The graph's inputs.
  public var inputs = 0
  /// The largest weight as the file has it, on the device only until it is packed.
  public var preparation = 0

  public init() {}

  public var byteCount: Int { activations + weights + inputs + preparation }

  var words: String {
    "\(ByteText.of(activations)) for activations, \(ByteText.of(weights + preparation)) for weights, \(ByteText.of(inputs)) for inputs"
  }
}

/// A plan that needs more memory than there is; nothing has been allocated for it.
public struct PlanMemoryError: Error, CustomStringConvertible, Sendable {
  /// The device's identifier.
  public let device: String
  /// Bytes the plan would take; no fewer than these where one value alone is too large.
  public let neededByteCount: Int
  /// Bytes it may take; `nil` where one value is too large for any device.
  public let availableByteCount: Int?
  /// What takes them, or which value is too large.
  public let details: String
  /// The model's file, where a file is behind the graph.
  public let file: String?

  package init(device: String, neededByteCount: Int, availableByteCount: Int?, details: String, file: String? = nil) {
    (self.device, self.neededByteCount, self.availableByteCount) = (device, neededByteCount, availableByteCount)
    (self.details, self.file) = (details, file)
  }

  /// The same error, with the file the graph came from.
  public func naming(file: String) -> PlanMemoryError {
    PlanMemoryError(device: device, neededByteCount: neededByteCount, availableByteCount: availableByteCount, details: details, file: file)
  }

  public var description: String {
    let place = file.map { "\($0): " } ?? ""
    let amount = ByteText.of(neededByteCount)
    guard let availableByteCount else {
      return "\(place)running it needs more than \(amount) of memory: \(details). Use a smaller --batch-size or smaller images."
    }
    return "\(place)running it needs \(amount) of memory on \(device) (\(details)), and \(ByteText.of(availableByteCount)) can be had. "
      + "Use a smaller --batch-size, smaller images, or a device with more memory."
  }
}

extension PlanMemory {
  /// The most elements of one value: kernels count them in 32 bits.
  static let largestElementCount = Int(Int32.max)

  /// Refuses a graph with a value that no kernel could count through.
  static func checkValues(of graph: Graph, on traits: DeviceTraits) throws(PlanMemoryError) {
    for value in graph.values {
      // Every extent counts, also beside one of 0: kernels take them one by one.
      let extents = value.type.shape.map { max(1, $0) }
      let elementCount = (try? TensorError.byteCount(shape: extents, elementType: .uint8)) ?? .max
      guard elementCount > largestElementCount else { continue }
      let name = value.name.isEmpty ? "a value" : "the value '\(value.name)'"
      let byteCount = (try? TensorError.byteCount(shape: value.type.shape, elementType: value.type.elementType)) ?? .max
      throw PlanMemoryError(
        device: traits.identifier, neededByteCount: byteCount, availableByteCount: nil,
        details: "\(name) is \(value.type), and one value can have at most \(largestElementCount) elements")
    }
  }

  /// Refuses what does not fit the device, or a limit below its memory.
  ///
  /// - Parameter largestBlock: bytes of the largest that is in one buffer: a value with what shares its memory, or scratch.
  func check(on traits: DeviceTraits, limit: Int?, largestBlock: Int) throws(PlanMemoryError) {
    let available = min(limit ?? .max, traits.memoryByteCount)
    guard byteCount <= available else {
      throw PlanMemoryError(device: traits.identifier, neededByteCount: byteCount, availableByteCount: available, details: words)
    }
    guard largestBlock <= traits.maximumBufferByteCount else {
      throw PlanMemoryError(
        device: traits.identifier, neededByteCount: largestBlock, availableByteCount: traits.maximumBufferByteCount,
        details: "a value lies in one buffer")
    }
  }
}
