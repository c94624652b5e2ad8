/// What `--kernels` asks for: the family an OpenCL device runs.
public enum KernelChoice: String, Sendable, CaseIterable {
  /// GPU kernels on GPUs, CPU kernels on CPUs.
  case auto
  case cpu, gpu
}

/// Which device `--device` and `--kernels` mean, given what is there.
package enum DeviceSelection: Equatable, Sendable {
  case cpu
  /// The place in the list of OpenCL devices, and the family to run there.
  case openCL(index: Int, family: KernelFamily)

  /// An OpenCL device that could be chosen.
  package struct Candidate: Sendable {
    package let traits: DeviceTraits
    /// Why it cannot be used, or `nil`.
    package let obstacle: String?

    package init(traits: DeviceTraits, obstacle: String?) { (self.traits, self.obstacle) = (traits, obstacle) }

    /// Memory and multiprocessors together stand for how much of a device it is; but an integrated GPU's memory is all that the machine
    /// has, and says nothing.
    fileprivate var size: (Int, Double) { (traits.sharesHostMemory ? 0 : 1, Double(traits.memoryByteCount) * Double(traits.multiprocessors)) }
  }

  /// `auto` takes the largest GPU, else the native CPU; `opencl` the largest GPU, else the largest other device.
  ///
  /// - Throws: `DeviceChoiceError` for a choice that cannot be had; nothing else is taken in its place.
  package static func select(
    _ text: String, kernels: KernelChoice, among candidates: [Candidate]
  ) throws(DeviceChoiceError) -> DeviceSelection {
    func refuse(_ problem: String) -> DeviceChoiceError {
      DeviceChoiceError(choice: text, problem: problem, available: ["cpu"] + candidates.map(Self.line))
    }
    func openCL(_ index: Int) -> DeviceSelection {
      let family: KernelFamily =
        switch kernels {
        case .auto: candidates[index].traits.family
        case .cpu: .cpu
        case .gpu: .gpu
        }
      return .openCL(index: index, family: family)
    }
    let usable = candidates.indices.filter { candidates[$0].obstacle == nil }
    let largestGPU = largest(of: usable.filter { candidates[$0].traits.isGPU }, candidates)

    switch text {
    case let list where list.contains(",") || list == Devices.allGPUs:
      throw refuse("this command computes on one device; 'graft extract' takes several")
    case "cpu":
      guard kernels != .gpu else { throw refuse("the cpu runs the CPU kernels only; --kernels gpu needs an OpenCL device") }
      return .cpu
    case "auto":
      if let largestGPU { return openCL(largestGPU) }
      guard kernels != .gpu else { throw refuse("there is no GPU to choose; name the OpenCL device that shall run --kernels gpu") }
      return .cpu
    case "opencl":
      guard let index = largestGPU ?? largest(of: usable, candidates) else {
        throw refuse(candidates.isEmpty ? "there is no OpenCL device; install its vendor's OpenCL driver" : "no OpenCL device can be used")
      }
      return openCL(index)
    default:
      guard text.hasPrefix("opencl:"), let index = Int(text.dropFirst("opencl:".count)) else {
        throw refuse("that is no device; give auto, cpu, opencl or opencl:INDEX")
      }
      guard candidates.indices.contains(index) else { throw refuse("there is no OpenCL device of that index") }
      if let obstacle = candidates[index].obstacle { throw refuse("\(candidates[index].traits.name) cannot be used: \(obstacle)") }
      return openCL(index)
    }
  }

  /// The devices of a list with commas, or of `all-gpus`: every GPU that can be used, of one that two drivers list the first.
  ///
  /// Devices of one driver are never the same: some leave the domain out of their address, and cards of several have the same without it.
  ///
  /// - Throws: `DeviceChoiceError` for a choice that cannot be had, and for a device that is named twice.
  package static func selectSeveral(
    _ text: String, kernels: KernelChoice, among candidates: [Candidate]
  ) throws(DeviceChoiceError) -> [DeviceSelection] {
    func refuse(_ problem: String) -> DeviceChoiceError {
      DeviceChoiceError(choice: text, problem: problem, available: ["cpu"] + candidates.map(Self.line))
    }
    var names = text.split(separator: ",", omittingEmptySubsequences: false).map { $0.trimmingPrefix(while: \.isWhitespace) }.map(String.init)
    if text == Devices.allGPUs {
      var drivers: [String: String] = [:]
      names = candidates.indices.filter { index in
        let traits = candidates[index].traits
        guard traits.isGPU, candidates[index].obstacle == nil else { return false }
        guard let address = traits.busAddress else { return true }
        if drivers[address] == nil { drivers[address] = traits.driver }
        return drivers[address] == traits.driver
      }.map { "opencl:\($0)" }
      guard !names.isEmpty else { throw refuse("there is no GPU with an OpenCL driver that can be used") }
    }
    var found: [DeviceSelection] = []
    for name in names {
      let selection: DeviceSelection
      do {
        selection = try select(name, kernels: kernels, among: candidates)
      } catch {
        // The choice as it was given.
        throw names.count > 1 ? refuse(name.isEmpty ? "a name is missing between two commas" : "'\(name)': \(error.problem)") : error
      }
      guard !found.contains(selection) else { throw refuse("it names the same device twice") }
      found.append(selection)
    }
    return found
  }

  /// The first of the largest.
  private static func largest(of indices: [Int], _ candidates: [Candidate]) -> Int? {
    indices.max { a, b in
      let (left, right) = (candidates[a].size, candidates[b].size)
      return (left.0, left.1, b) < (right.0, right.1, a)
    }
  }

  private static func line(_ candidate: Candidate) -> String {
    let obstacle = candidate.obstacle.map { " (\($0))" } ?? ""
    return "\(candidate.traits.identifier) \(candidate.traits.name)\(obstacle)"
  }
}

/// A device was asked for that is not to be had.
public struct DeviceChoiceError: Error, CustomStringConvertible, Sendable {
  /// What was asked for.
  public let choice: String
  public let problem: String
  /// What is there, a line each.
  public let available: [String]

  public var description: String {
    "cannot use --device \(choice): \(problem). There is:\n" + available.map { "  \($0)" }.joined(separator: "\n")
  }
}
