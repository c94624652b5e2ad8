import GraftDevice

/// One operation as a graph of its own, with random input: what `graft bench gemm` and `graft bench conv` run.
public struct OperationBenchmark: Sendable {
  /// Sizes that a graph, a device or this machine cannot take.
  public struct SizeError: Error, CustomStringConvertible, Sendable {
    public let message: String
    public var description: String { message }
  }

  public let outputShape: [Int]
  /// Arithmetic of the definition: a fast algorithm may do less.
  public let flops: Double
  /// Bytes that have to move: every input read once, the result written once.
  public let byteCount: Double
  let operation: any ElementReference
  let types: [TensorType]
  let isSecondConstant: Bool

  /// The matrix product y = a b of `batch` pairs of matrices: a: [M, K] (or [K, M] with `transposeA`), b: [K, N] (or [N, K]).
  ///
  /// - Parameter isPacked: b is a constant, packed before the run as a layer's weights are; otherwise packing is part of the
  ///   run, as in a BLAS.
  /// - Throws: `SizeError`.
  public init(m: Int, n: Int, k: Int, batch: Int = 1, transposeA: Bool = false, transposeB: Bool = false, isPacked: Bool = false) throws(SizeError) {
    let lead = batch == 1 ? [] : [batch]
    try self.init(
      MatMul(transposeA: transposeA, transposeB: transposeB), [lead + (transposeA ? [k, m] : [m, k]), lead + (transposeB ? [n, k] : [k, n])],
      isSecondConstant: isPacked)
  }

  /// A convolution of `input`, [N, H, W, C], with weights [outputs, C/groups, kernel.h, kernel.w].
  ///
  /// - Parameter isPacked: the weights are a constant, packed or transformed before the run; otherwise that is part of the run.
  /// - Throws: `SizeError`.
  public init(
    input: [Int], outputs: Int, kernel: Pair, stride: Pair = Pair(1), padding: Padding2D = Padding2D(), dilation: Pair = Pair(1), groups: Int = 1,
    isPacked: Bool = true
  ) throws(SizeError) {
    guard input.count == 4, groups > 0, input[3] % groups == 0, outputs % groups == 0 else {
      throw SizeError(message: "\(input.last ?? 0) channels and \(outputs) outputs cannot be cut into \(groups) groups of equal size")
    }
    let extents = [kernel.h, kernel.w, stride.h, stride.w, dilation.h, dilation.w, padding.top, padding.left, padding.bottom, padding.right]
    guard (input + extents).allSatisfy({ $0 <= Self.largestExtent }) else {
      throw SizeError(message: "a size of more than 2²⁴ is not one that a convolution can have")
    }
    try self.init(
      Conv2D(stride: stride, padding: padding, dilation: dilation, groups: groups), [input, [outputs, input[3] / groups, kernel.h, kernel.w]],
      isSecondConstant: isPacked)
  }

  /// The gradient with respect to its weights of a convolution of `input`, [N, H, W, C], whose own gradient, [N, H', W', O], is random.
  ///
  /// - Throws: `SizeError`.
  package init(weightsOf gradient: Conv2DWeightGradient, input: [Int], upstream: [Int]) throws(SizeError) {
    try self.init(gradient, [input, upstream], isSecondConstant: false)
  }

  private init(_ operation: some ElementReference, _ shapes: [[Int]], isSecondConstant: Bool) throws(SizeError) {
    func check(_ shape: [Int], _ what: String) throws(SizeError) {
      guard shape.allSatisfy({ $0 > 0 }) else { throw SizeError(message: "\(what) would have shape \(shape): every size must be positive") }
      guard let byteCount = try? TensorError.byteCount(shape: shape, elementType: .float32), byteCount / 4 <= Self.largestElementCount else {
        throw SizeError(message: "\(what) would have shape \(shape), more than 2³⁰ elements: give smaller sizes")
      }
    }
    for shape in shapes { try check(shape, "an input") }
    types = shapes.map { TensorType($0) }
    do {
      outputShape = try operation.outputType(types).shape
    } catch {
      throw SizeError(message: "\(error)")
    }
    try check(outputShape, "the result")
    (self.operation, self.isSecondConstant) = (operation, isSecondConstant)
    let output = TensorType(outputShape)
    flops = operation.flops(types, output)
    byteCount = Double(types.reduce(output.byteCount) { $0 + $1.byteCount })
    try check([packedElementCount], "packed weights")
  }

  /// Kernels count elements in 32 bits with a sign, and add the size of a tile to what they count.
  private static let largestElementCount = 1 << 30
  /// The same for places in an image, which strides, dilation and padding are added to.
  private static let largestExtent = 1 << 24

  /// Elements of the second input once it is packed, in panels of up to 64 outputs.
  private var packedElementCount: Int {
    let shape = types[1].shape
    func panels(_ outputs: Int) -> Int { divideUp(outputs, 64) * 64 }
    switch operation {
    // Nothing is packed.
    case is Conv2DWeightGradient: return types[1].elementCount
    case let conv as Conv2D: return conv.groups * panels(shape[0] / conv.groups) * shape[1...].reduce(1, *)
    case let product as MatMul where product.transposeB: return types[1].elementCount / shape[shape.count - 2] * panels(shape[shape.count - 2])
    default: return types[1].elementCount / shape[shape.count - 1] * panels(shape[shape.count - 1])
    }
  }

  /// The operation made ready for the device, its input written.
  ///
  /// - Parameter availableByteCount: memory of this machine that is free; `nil` where that is not known.
  /// - Throws: `SizeError` if the memory does not suffice; what `Plan` throws.
  public func prepare(
    on device: any Device, options: PlanOptions = PlanOptions(), availableByteCount: Int? = AvailableMemory.byteCount()
  ) throws -> PreparedOperationBenchmark {
    try prepare(on: device, options: options, availableByteCount: availableByteCount, values: nil)
  }

  /// Random elements of the inputs.
  package func values(for format: ComputeFormat) -> [[Float]] {
    var generator = SplitMix(1)
    return types.map { type in (0..<type.elementCount).map { _ in format.holdable(generator.float()) } }
  }

  /// - Parameter values: what `values(for:)` gave, to draw them once for several plans.
  package func prepare(
    on device: any Device, options: PlanOptions, availableByteCount: Int? = AvailableMemory.byteCount(), values known: [[Float]]?
  ) throws -> PreparedOperationBenchmark {
    // Tensors for the comparison; a constant is held once more by the graph.
    let hostByteCount = Int(byteCount) + (isSecondConstant ? types[1].byteCount : 0)
    let available = availableByteCount ?? device.traits.memoryByteCount
    func tooMuch(_ needed: Int, _ available: Int) -> SizeError {
      SizeError(message: "that needs \(ByteText.of(needed)) of memory, and \(ByteText.of(available)) can be had: give smaller sizes")
    }
    guard hostByteCount <= available else { throw tooMuch(hostByteCount, available) }
    var options = options
    options.endsInFloat32 = false
    if !device.traits.isGPU { options.memoryLimit = min(options.memoryLimit ?? .max, available - hostByteCount) }
    // The rows of a product are not images'.
    if options.imageCount == nil, operation is MatMul { options.imageCount = 0 }
    let values = known ?? values(for: options.format)
    var graph = Graph()
    let first = graph.addInput(types[0], name: "a")
    let second =
      isSecondConstant ? graph.addConstant(HostTensor(types[1].shape, values[1]), name: "b") : graph.addInput(types[1], name: "b")
    graph.outputs = [try graph.add(any: operation, [first, second], name: "benchmark")]
    let plan: Plan
    do {
      plan = try Plan(graph, device: device, options: options)
    } catch let error as PlanMemoryError {
      throw tooMuch(error.neededByteCount, error.availableByteCount ?? available)
    }
    for (input, values) in zip(plan.graph.inputs, values) { try plan.write(values, to: input) }
    return PreparedOperationBenchmark(benchmark: self, plan: plan, precision: options.precision, values: values)
  }
}

/// An operation's plan with its input on the device.
public struct PreparedOperationBenchmark {
  public let benchmark: OperationBenchmark
  public let plan: Plan
  let precision: Precision
  let values: [[Float]]

  /// How far results are from double precision.
  public struct Accuracy: Sendable {
    /// The largest error, divided by the largest of the true results; infinite where a result is not a number.
    public let largestRelativeError: Double
    /// Results that were compared.
    public let checkedCount: Int
    /// What a correct kernel stays below: the parity asked of whole networks, or the rounding of very long sums in float32; and
    /// that of the result, when it is stored in a shorter format.
    public let bound: Double
    public var isWithinBound: Bool { largestRelativeError <= bound }
  }

  /// Runs once and compares a sample of the results (corners and random places) with the definition in double precision.
  public func accuracy() throws -> Accuracy {
    try plan.run()
    return accuracy(of: try plan.read(plan.graph.outputs[0]))
  }

  package func accuracy(of result: [Float]) -> Accuracy {
    let (operation, types, shape) = (benchmark.operation, benchmark.types, benchmark.outputShape)
    let terms = operation.termCount(types)
    // A tenth of a second or so of arithmetic.
    let places = sample(count: min(max(32, 50_000_000 / max(1, terms)), 2048), of: shape)
    var (largestError, largest) = (0.0, 0.0)
    for place in places {
      var (rest, index) = (place, shape)
      for d in shape.indices.reversed() { (rest, index[d]) = rest.quotientAndRemainder(dividingBy: shape[d]) }
      let expected = operation.referenceElement(at: index, values, types)
      let error = abs(Double(result[place]) - expected)
      largestError = max(largestError, error.isNaN ? .infinity : error)
      largest = max(largest, abs(expected))
    }
    return Accuracy(
      largestRelativeError: largestError == 0 ? 0 : largestError / largest, checkedCount: places.count,
      bound: max(1e-4, 2.4e-7 * Double(terms).squareRoot()) + precision.roundingUnit)
  }

  /// Places in a row-major result: all of a small one; of a larger one each corner and random ones.
  private func sample(count: Int, of shape: [Int]) -> [Int] {
    let total = shape.reduce(1, *)
    if total <= count { return Array(0..<total) }
    var places = [0]
    for (extent, stride) in zip(shape, rowMajorStrides(shape)) where extent > 1 { places += places.map { $0 + (extent - 1) * stride } }
    var generator = SplitMix(2)
    while places.count < count { places.append(Int.random(in: 0..<total, using: &generator)) }
    return places
  }
}

extension ComputeFormat {
  /// A number near one of −1…1 that every shorter format holds, eight bits and a sign: so that a benchmark's operands are what
  /// the kernels get, and its error is theirs.
  fileprivate func holdable(_ value: Float) -> Float { self == .float32 ? value : (value * 128).rounded() / 128 }
}

extension Precision {
  /// The largest relative error of storing a number; that of float32 counts among the sum's.
  fileprivate var roundingUnit: Double {
    switch self {
    case .float32: 0
    case .bfloat16: 0x1p-8
    case .float16: 0x1p-11
    }
  }
}
