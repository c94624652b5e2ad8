import CKernels
import GraftDevice

// What the operations' GPU lowerings share: grids, vector widths, and the options of a program.

extension Activation {
  /// Compiles the activation into a program; none, relu, clip and leaky relu are told apart at run time (Kernels/gpu/activation.h).
  var gpuOptions: [KernelReference.Option] {
    code.kind <= Int32(GRAFT_ACTIVATION_LEAKY_RELU) ? [] : [.init("ACTIVATION", Int(code.kind))]
  }
}

extension LoweringContext {
  /// Work-items of a group where any size will do.
  var groupSize: Int { ProductKernel.groupSize(traits) }

  /// Appends a launch of `count` independent work-items; none if there are none.
  mutating func launchItems<Parameters: BitwiseCopyable>(
    _ file: String, _ function: String, _ operands: [Operand?], _ parameters: Parameters, count: Int, options: [KernelReference.Option] = [],
    flops: Double? = nil, bytes: Double? = nil, precision: Precision? = nil
  ) {
    guard count > 0 else { return }
    let grid = Grid.covering(count, workGroup: (groupSize, 1, 1))
    launch(file, function, operands, parameters, grid: grid, options: options, flops: flops, bytes: bytes, precision: precision)
  }

  /// Appends a launch of `count` work-groups of `size` work-items; none if there are none.
  mutating func launchGroups<Parameters: BitwiseCopyable>(
    _ file: String, _ function: String, _ operands: [Operand?], _ parameters: Parameters, count: Int, size: Int,
    options: [KernelReference.Option] = [], flops: Double? = nil, bytes: Double? = nil, precision: Precision? = nil
  ) {
    guard count > 0 else { return }
    launch(
      file, function, operands, parameters, grid: Grid(count * size, workGroup: (size, 1, 1)), options: options, flops: flops, bytes: bytes,
      precision: precision)
  }

  /// How work-items share rows of `length`, `rows` of them: the options of Kernels/gpu/rows.h and the number of work-groups.
  func rowGroups(rows: Int, length: Int) -> (count: Int, size: Int, options: [KernelReference.Option]) {
    let items = min(length <= 16 ? 8 : length <= 256 ? 32 : 256, groupSize), rowCount = groupSize / items
    return (divideUp(rows, rowCount), groupSize, [.init("ROW_ITEMS", items), .init("ROW_COUNT", rowCount)])
  }

  /// Elements a work-item moves at once: 16 bytes of the plan's format (4 floats, 8 shorter numbers), else 4, where every
  /// extent and stride is a multiple of that and every operand begins at one; else 1.
  func vector(_ extents: [Int], _ operands: [Operand?], atMost limit: Int = 8) -> Int {
    let candidates = precision == .float32 ? [4] : [8, 4]
    return candidates.first { width in
      width <= limit && extents.allSatisfy { $0 % width == 0 } && operands.allSatisfy { (start(of: $0) % width) == 0 }
    } ?? 1
  }

  /// Where an operand begins, in elements. Blocks of memory begin anew; a slice of another value's channels does not.
  func start(of operand: Operand?) -> Int {
    if case .value(let id)? = operand { layouts[id]?.offset ?? 0 } else { 0 }
  }

  static func vectorOption(_ width: Int) -> [KernelReference.Option] { [.init("VECTOR", width)] }
}
