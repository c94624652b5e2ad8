import GraftBackbones
import GraftData
import GraftDevice
import GraftGraph

/// A backbone up to its cut, on a device: bytes of prepared images in, rows of features out.
///
/// Normalisation is part of the plan, so images travel to the device as bytes.
///
/// Where the device's memory does not suffice, for the plan or while it runs, the batch is halved, which is noted, until it
/// fits; rows are the same bits whatever the batch.
public final class FrozenBackbone: FeatureComputing {
  /// Images a call should have; more are computed in parts, as fewer are where memory has run out since.
  public let batchSize: Int
  public let featureShape: [Int]
  /// The name of the cut.
  public let cut: String
  /// Images the device computes at a time.
  public private(set) var deviceBatchSize: Int
  private let make: (Int) throws -> PreparedBackbone
  private var prepared: PreparedBackbone? {
    didSet { if let prepared { deviceBatchSize = prepared.batchSize } }
  }

  /// Where a backbone is cut, before anything is computed.
  public struct Description: Sendable {
    public let cut: String
    public let featureShape: [Int]
    /// Every cut there is, for messages.
    public let cuts: [Cut]
  }

  /// Finds the cut by name; `nil` is the default one, the classifier's input.
  ///
  /// - Throws: `ImportError` that lists some cuts if there is none of that name.
  public static func describe(_ backbone: Backbone, cut name: String?, preprocessing: Preprocessing) throws -> Description {
    let graph = try backbone.graph(imageShape: [1, 3, preprocessing.height, preprocessing.width], with: name)
    let value = try cutValue(of: graph, named: name, backbone: backbone)
    return Description(cut: graph[value].name, featureShape: Array(graph.type(of: value).shape.dropFirst()), cuts: graph.cuts())
  }

  static func cutValue(of graph: Graph, named name: String?, backbone: Backbone) throws -> ValueID {
    if let name {
      let cuts = graph.cuts()
      let asked = graph.value(named: name)
      if let found = cuts.first(where: { $0.name == name || $0.value == asked })?.value ?? graph.outputs.first(where: { graph[$0].name == name }) {
        return found
      }
      let known = cuts.suffix(6).map { "'\($0.name)'" }.joined(separator: ", ")
      throw ImportError(
        file: backbone.path,
        what: asked == nil ? "it has no value '\(name)'" : "it can't be cut at '\(name)': other values go past it",
        remedy: "The last cuts are \(known); 'graft inspect \(backbone.path)' lists all of them.")
    }
    guard let found = graph.defaultCut() else {
      throw ImportError(file: backbone.path, what: "it has no output", remedy: "Export the model again.")
    }
    return found
  }

  /// - Throws: `ImportError`; `PlanMemoryError` before anything is allocated, if not even one image fits; `DeviceError`,
  ///   `BuildError`.
  public init(
    _ backbone: Backbone, cut name: String?, preprocessing: Preprocessing, batchSize: Int, device: any Device, options: PlanOptions = PlanOptions()
  ) throws {
    let description = try Self.describe(backbone, cut: name, preprocessing: preprocessing)
    (cut, featureShape) = (description.cut, description.featureShape)
    make = { batchSize in
      try PreparedBackbone(backbone, cut: name, preprocessing: preprocessing, batchSize: batchSize, device: device, options: options)
    }
    let first = try Self.halving(batchSize, device: device.traits.identifier, make)
    (waitsElsewhere, waits) = (device.hostWaitCount, { device.hostWaitCount })
    (prepared, self.batchSize, deviceBatchSize) = (first, first.batchSize, first.batchSize)
    imageByteCount = preprocessing.byteCount
    self.device = device.traits.identifier
  }

  private let device: String
  private let imageByteCount: Int
  private let waits: () -> Int
  /// Waits for the device that were not for batches, but for plans.
  private var waitsElsewhere: Int
  private var counts = (images: 0, batches: 0)

  /// What the device has done so far.
  public var usage: DeviceUsage {
    var usage = DeviceUsage(device: device)
    (usage.images, usage.batches, usage.hostWaits) = (counts.images, counts.batches, waits() - waitsElsewhere)
    return usage
  }

  /// Makes the plan for a batch, or for half of it, and so on, as long as memory is what is missing.
  private static func halving(_ batchSize: Int, device: String, _ make: (Int) throws -> PreparedBackbone) throws -> PreparedBackbone {
    var batchSize = batchSize
    while true {
      do {
        return try make(batchSize)
      } catch  where isOutOfMemory(error) && batchSize > 1 {
        note(batchSize, device, error)
        batchSize /= 2
      }
    }
  }

  private static func note(_ batchSize: Int, _ device: String, _ error: any Error) {
    DeviceNotes.note("\(device): a batch of \(batchSize) does not fit, so it is halved to \(batchSize / 2) (\(error))")
  }

  private static func isOutOfMemory(_ error: any Error) -> Bool {
    switch error {
    case is PlanMemoryError: true
    case let error as DeviceError: error.isOutOfMemory
    default: false
    }
  }

  // MARK: Batches

  private struct Batch {
    let images: UnsafeRawBufferPointer
    let count: Int
    let rows: UnsafeMutableBufferPointer<Float>
    /// Images that were given to the device, and those whose rows are there: the first ones.
    var begun = 0
    var done = 0
  }

  /// Those begun and not finished, in order.
  private var batches: [Batch] = []
  /// What the device has: counts of images, in order, of one batch each.
  private var parts: [Int] = []

  public var depth: Int { prepared?.stream.depth ?? 1 }

  public func features(ofBatch images: UnsafeRawBufferPointer, count: Int, into target: UnsafeMutableBufferPointer<Float>) throws {
    guard count > 0 else { return }
    precondition(batches.isEmpty, "batches are under way")
    try begin(images, count: count, into: target)
    try finishFirst()
  }

  /// - Throws: `ShapeError` for memory that is not of so many images or rows; what the device throws.
  public func begin(_ images: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
    let rowCount = featureShape.reduce(1, *)
    guard count > 0, images.count == count * imageByteCount else {
      throw ShapeError("input", "\(count) images have \(count * imageByteCount) bytes, and \(images.count) were given")
    }
    guard rows.count >= count * rowCount else {
      throw ShapeError("features", "\(count) rows have \(count * rowCount) numbers, and there is room for \(rows.count)")
    }
    batches.append(Batch(images: images, count: count, rows: rows))
    try withHalving { try submit($0) }
  }

  public var isFirstDone: Bool {
    guard let first = batches.first else { return true }
    // The batch's last part is all that is left of it.
    return first.done == first.count
      || (first.begun == first.count && parts.first == first.count - first.done && prepared?.stream.isFirstDone() != false)
  }

  public func finishFirst() throws {
    while let first = batches.first, first.done < first.count {
      try withHalving { current in
        try submit(current)
        try collect(current)
        try submit(current)
      }
    }
    if !batches.isEmpty { batches.removeFirst() }
  }

  public func abandon() {
    batches = []
    // With the plan go its streams, which wait for what they began.
    if !parts.isEmpty { drop() }
  }

  /// Gives the device what it has room for.
  private func submit(_ current: PreparedBackbone) throws {
    while parts.count < current.stream.depth, let index = batches.firstIndex(where: { $0.begun < $0.count }) {
      let batch = batches[index]
      let count = min(current.batchSize, batch.count - batch.begun)
      let range = batch.begun * imageByteCount..<(batch.begun + count) * imageByteCount
      try current.stream.submit(
        UnsafeRawBufferPointer(rebasing: batch.images[range]), resultByteCount: count * featureShape.reduce(1, *) * MemoryLayout<Float>.stride)
      batches[index].begun += count
      parts.append(count)
    }
  }

  /// Takes the rows of the device's first part.
  private func collect(_ current: PreparedBackbone) throws {
    guard let count = parts.first, let index = batches.firstIndex(where: { $0.done < $0.count }) else { return }
    let batch = batches[index], width = featureShape.reduce(1, *)
    let target = UnsafeMutableBufferPointer(rebasing: batch.rows[batch.done * width..<(batch.done + count) * width])
    try current.stream.collect(into: UnsafeMutableRawBufferPointer(target))
    parts.removeFirst()
    batches[index].done += count
    counts = (counts.images + count, counts.batches + 1)
  }

  /// Runs `body`; where the device's memory does not suffice, everything that is not done is begun again with half the images.
  private func withHalving(_ body: (PreparedBackbone) throws -> Void) throws {
    while true {
      let current = try prepared ?? Self.halving(batchSize, device: device, make)
      prepared = current
      do {
        return try body(current)
      } catch  where Self.isOutOfMemory(error) && current.batchSize > 1 {
        Self.note(current.batchSize, device, error)
        let batchSize = current.batchSize / 2, before = waits()
        drop()
        prepared = try Self.halving(batchSize, device: device, make)
        waitsElsewhere += waits() - before
      } catch {
        drop()
        batches = []
        throw error
      }
    }
  }

  /// Gives the plan's memory back, before another one's is asked for, and with it what the device has begun.
  private func drop() {
    prepared = nil
    parts = []
    for index in batches.indices { batches[index].begun = batches[index].done }
  }
}

/// A backbone's plan for a batch.
private final class PreparedBackbone {
  let batchSize: Int
  let stream: any BatchStream

  init(_ backbone: Backbone, cut name: String?, preprocessing: Preprocessing, batchSize: Int, device: any Device, options: PlanOptions) throws {
    let shape = [batchSize, 3, preprocessing.height, preprocessing.width]
    let whole = try backbone.graph(imageShape: shape, with: name)
    let value = try FrozenBackbone.cutValue(of: whole, named: name, backbone: backbone)
    guard whole.type(of: value).shape.first == batchSize else {
      throw ImportError(
        file: backbone.path, what: "its features have shape \(whole.type(of: value).shape) for a batch of \(batchSize)",
        remedy: "The model was exported for a fixed batch: use --batch-size 1, or export it with an open one.")
    }
    let frozen = try whole.frozen(at: value)
    try backbone.checkImagesStayApart(in: frozen)
    var options = options
    options.isStreamed = true
    let plan = try backbone.namingFile { try Plan(frozen.takingImageBytes(preprocessing), device: device, options: options) }
    // The stream keeps the launches, and they their memory.
    stream = try plan.stream(from: plan.graph.inputs[0], to: plan.graph.outputs[0])
    self.batchSize = batchSize
  }
}
