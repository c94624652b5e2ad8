import GraftDevice

/// A launch as a plan would make it, without the memory it works on.
package struct LaunchOutline: Sendable {
  package let kernel: KernelReference
  /// The bytes of the parameter structure.
  let parameters: [UInt8]
  package let grid: Grid
  /// The operation and the node.
  package let label: String
  /// Of one launch.
  package let flops, bytes: Double
  /// How often it runs: once, or once for each part of the batch.
  package fileprivate(set) var count: Int

  fileprivate init(_ launch: PlannedLaunch, count: Int) {
    (kernel, parameters, grid, label) = (launch.kernel, launch.parameters, launch.grid, launch.label)
    (flops, bytes, self.count) = (launch.flops, launch.bytes, count)
  }
}

/// What a plan would launch on a device that need not be there.
package struct PlanOutline: Sendable {
  /// Run once: weights are packed.
  package let preparation: [LaunchOutline]
  /// One run, in order.
  package let launches: [LaunchOutline]

  /// - Throws: what `Plan` throws before it allocates.
  package init(_ graph: Graph, traits: DeviceTraits, options: PlanOptions = PlanOptions()) throws {
    let schedule = try Plan.lower(graph, traits: traits, options: options).schedule
    var counts = [Int](repeating: 0, count: schedule.launches.count)
    for step in schedule.steps { counts[step.launch] += 1 }
    preparation = schedule.preparation.map { LaunchOutline($0, count: 1) }
    launches = zip(schedule.launches, counts).map { LaunchOutline($0, count: $1) }
  }
}
