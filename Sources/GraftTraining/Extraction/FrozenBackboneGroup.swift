import Foundation
import GraftBackbones
import GraftData
import GraftDevice
import GraftGraph

/// A backbone up to its cut on several devices at once: each takes the next batch as soon as it has room.
///
/// Batches end in the order in which they began, and rows are the same bits on every device of a kind, so what is made of them
/// does not show how many devices there were. A device that fails is left out, with a note, and what it had goes to the others;
/// the last one's failure is the error.
public final class FrozenBackboneGroup: FeatureComputing {
  public let batchSize: Int
  public let featureShape: [Int]
  public let cut: String
  public let depth: Int
  private let work: SharedWork

  /// Makes the backbone ready on all devices side by side; returns as soon as one is.
  ///
  /// - Throws: what `FrozenBackbone` throws for the last device, if it can be had on none; at once what is not a device's fault.
  public init(
    _ backbone: Backbone, cut name: String?, preprocessing: Preprocessing, batchSize: Int, devices: [any Device],
    options: PlanOptions = PlanOptions()
  ) throws {
    precondition(!devices.isEmpty, "a group of no devices")
    let description = try FrozenBackbone.describe(backbone, cut: name, preprocessing: preprocessing)
    (cut, featureShape, self.batchSize) = (description.cut, description.featureShape, batchSize)
    // Two that each computes or awaits, and one that waits for its turn to be written.
    depth = 3 * devices.count
    let work = SharedWork(devices: devices.map(\.traits.identifier))
    self.work = work
    for (index, device) in devices.enumerated() {
      let thread = Thread {
        work.serve(index) {
          try FrozenBackbone(backbone, cut: name, preprocessing: preprocessing, batchSize: batchSize, device: device, options: options)
        }
      }
      thread.name = "graft \(device.traits.identifier)"
      // Building a graph and packing weights take more than a secondary thread's usual stack on some systems.
      thread.stackSize = 8 << 20
      thread.start()
    }
    do {
      try work.waitUntilReady()
    } catch {
      work.stop()
      throw error
    }
  }

  deinit { work.stop() }

  /// What each device has done, and why it stopped if it did.
  public var usage: [DeviceUsage] { work.usage }

  public func features(ofBatch bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
    guard count > 0 else { return }
    try begin(bytes, count: count, into: rows)
    try finishFirst()
  }

  public func begin(_ bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
    try work.add(SharedWork.Batch(bytes: bytes, count: count, rows: rows))
  }

  public var isFirstDone: Bool { work.isFirstDone }
  public func finishFirst() throws { try work.takeFirst() }
  public func abandon() { work.abandon() }
}

/// What a device did in an extraction.
public struct DeviceUsage: Sendable {
  /// The device's identifier.
  public let device: String
  public internal(set) var images = 0
  /// Batches the device was given; a caller's batch that it has no memory for is several.
  public internal(set) var batches = 0
  /// How often this side waited for the device while batches were computed.
  public internal(set) var hostWaits = 0
  /// Why it was left out, if it was.
  public internal(set) var failure: String?

  init(device: String) { self.device = device }
}

/// Batches between the one thread that hands them out and a thread a device.
///
/// `@unchecked Sendable`: every stored property that changes is touched under `condition` only. A batch's memory belongs to the
/// device that took it until it is done or given back, and `abandon` waits for that.
private final class SharedWork: @unchecked Sendable {
  final class Batch {
    enum State { case waiting, taken, done }
    let bytes: UnsafeRawBufferPointer
    let count: Int
    let rows: UnsafeMutableBufferPointer<Float>
    var state = State.waiting

    init(bytes: UnsafeRawBufferPointer, count: Int, rows: UnsafeMutableBufferPointer<Float>) {
      (self.bytes, self.count, self.rows) = (bytes, count, rows)
    }
  }

  private let condition = NSCondition()
  /// In the order in which they began.
  private var batches: [Batch] = []
  private var usages: [DeviceUsage]
  private var serving: Int
  private var readyCount = 0
  private var isStopping = false
  /// Why nothing can be computed any more.
  private var failure: (any Error)?

  init(devices: [String]) {
    usages = devices.map { DeviceUsage(device: $0) }
    serving = devices.count
  }

  // MARK: The caller's side

  var usage: [DeviceUsage] { condition.withLock { usages } }

  func waitUntilReady() throws {
    try condition.withLock {
      while readyCount == 0, failure == nil { condition.wait() }
      if readyCount == 0, let failure { throw failure }
    }
  }

  func add(_ batch: Batch) throws {
    try condition.withLock {
      if let failure { throw failure }
      batches.append(batch)
      condition.broadcast()
    }
  }

  var isFirstDone: Bool { condition.withLock { batches.first.map { $0.state == .done } ?? true || failure != nil } }

  func takeFirst() throws {
    try condition.withLock {
      while let first = batches.first {
        if first.state == .done {
          batches.removeFirst()
          return
        }
        if let failure { throw failure }
        condition.wait()
      }
    }
  }

  /// Waits for what the devices are at.
  func abandon() {
    condition.withLock {
      batches.removeAll { $0.state == .waiting }
      condition.broadcast()
      while batches.contains(where: { $0.state == .taken }) {
        condition.wait()
        batches.removeAll { $0.state == .waiting }
      }
      batches = []
    }
  }

  /// Ends the threads and waits for them: devices are closed when this returns.
  func stop() {
    condition.withLock {
      isStopping = true
      condition.broadcast()
      while serving > 0 { condition.wait() }
    }
  }

  // MARK: A device's side

  private enum Task {
    case begin(Batch)
    case finish, end
  }

  /// What a device's thread does until there is nothing more to do.
  func serve(_ index: Int, _ make: () throws -> FrozenBackbone) {
    var mine: [Batch] = []
    do {
      let frozen = try make()
      condition.withLock {
        readyCount += 1
        condition.broadcast()
      }
      loop: while true {
        switch next(having: mine.count, room: frozen.depth) {
        case .begin(let batch):
          mine.append(batch)
          try frozen.begin(batch.bytes, count: batch.count, into: batch.rows)
        case .finish:
          try frozen.finishFirst()
          let batch = mine.removeFirst()
          condition.withLock {
            batch.state = .done
            (usages[index].batches, usages[index].hostWaits) = (frozen.usage.batches, frozen.usage.hostWaits)
            usages[index].images += batch.count
            condition.broadcast()
          }
        case .end: break loop
        }
      }
      leave()
    } catch {
      leave(index, mine, because: error)
    }
  }

  /// Another batch as long as there is room; else the end of what it has.
  private func next(having count: Int, room: Int) -> Task {
    condition.withLock {
      while true {
        if !isStopping, count < room, let batch = batches.first(where: { $0.state == .waiting }) {
          batch.state = .taken
          return .begin(batch)
        }
        if count > 0 { return .finish }
        if isStopping || failure != nil { return .end }
        condition.wait()
      }
    }
  }

  private func leave() {
    condition.withLock {
      serving -= 1
      condition.broadcast()
    }
  }

  private func leave(_ index: Int, _ mine: [Batch], because error: any Error) {
    // A model that cannot be used is so on every device.
    let isDevices = error is DeviceError || error is BuildError || error is PlanMemoryError
    let (device, rest) = condition.withLock {
      for batch in mine { batch.state = .waiting }
      usages[index].failure = "\(error)"
      let rest = zip(usages.indices, usages).filter { $0.0 != index && $0.1.failure == nil }.map(\.1.device)
      if failure == nil, rest.isEmpty || !isDevices { failure = error }
      condition.broadcast()
      return (usages[index].device, isDevices && !isStopping ? rest : [])
    }
    if !rest.isEmpty {
      DeviceNotes.note("\(device) is left out and its work goes to \(rest.joined(separator: ", ")): \(error)")
    }
    leave()
  }
}
