import GraftDevice

/// How a plan goes about its work.
public struct PlanOptions: Sendable {
  /// The format of values and weights in memory; inputs and outputs are float32.
  public var precision: Precision
  /// Whether the factors of products and convolutions in float32 may be rounded to tf32's 11 bits, on devices that have a matrix
  /// unit for them; on others a note says that they are not.
  public var multipliesInTF32 = false
  /// Whether passes run first; false is for tests of single operations.
  public var optimizes = true
  /// Whether the vectors that a network ends with, pooled features or the scores of classes, are computed in float32 whatever the
  /// plan's format.
  public var endsInFloat32 = true
  /// Whether 3 × 3 convolutions may be computed by Winograd's transforms (GPU family: in float32): up to four times fewer products,
  /// and errors of some 1e-6 of the largest value instead of some 1e-7.
  public var usesWinograd = true
  /// Whether depthwise convolutions may be computed together with the pointwise ones around them (CPU family); the numbers are the same.
  package var fusesSeparable = true
  /// Bytes of device memory the plan may take; `nil`: all that the device has.
  public var memoryLimit: Int?
  /// Whether batches are going to be streamed through the plan, which takes memory for one more input and result where the
  /// device works on its own.
  public var isStreamed = false
  /// Whether values may be too small for float16's full precision and have to be told from zero all the same, as gradients.
  public var hasSmallValues = false
  /// Bytes of the last cache to plan for; `nil`: the device's. 0: the whole batch at once.
  package var lastCacheByteCount: Int?
  /// Bytes that the GPU family's transformed tiles take at most; `nil`: `Winograd.scratchByteLimit`.
  package var winogradByteLimit: Int?
  /// Images of a batch, where that is not the first extent of the first input; 0: rows are not images'. Decides where sums of
  /// the GPU family are cut.
  package var imageCount: Int?
  /// The kernels of the GPU family to prefer; `nil`: what `graft tune` has stored for the device.
  package var tuning: KernelTuning?

  public init(precision: Precision = .float32, memoryLimit: Int? = nil) {
    (self.precision, self.memoryLimit) = (precision, memoryLimit)
  }

  public init(format: ComputeFormat, memoryLimit: Int? = nil) {
    self.init(precision: format.storage, memoryLimit: memoryLimit)
    multipliesInTF32 = format == .tf32
  }

  /// `precision` and `multipliesInTF32` in one.
  public var format: ComputeFormat {
    get { format(of: precision) }
    set { (precision, multipliesInTF32) = (newValue.storage, newValue == .tf32) }
  }

  /// What products of values in that format are computed in.
  func format(of precision: Precision) -> ComputeFormat { precision == .float32 && multipliesInTF32 ? .tf32 : ComputeFormat(precision) }

  /// The unit, if what it does to small numbers does not matter to the plan.
  package func usable(_ unit: MatrixUnit) -> MatrixUnit? { hasSmallValues && format == .float16 && unit.flushesSubnormals ? nil : unit }

  /// The graph node by node.
  package static var asWritten: PlanOptions { asWritten(in: .float32) }

  package static func asWritten(in precision: Precision) -> PlanOptions {
    var options = PlanOptions(precision: precision)
    (options.optimizes, options.endsInFloat32) = (false, false)
    return options
  }

  package static func asWritten(computing format: ComputeFormat) -> PlanOptions {
    var options = asWritten(in: format.storage)
    options.format = format
    return options
  }

  package static func planning(forCache byteCount: Int, in precision: Precision = .float32) -> PlanOptions {
    var options = PlanOptions(precision: precision)
    options.lastCacheByteCount = byteCount
    return options
  }
}
