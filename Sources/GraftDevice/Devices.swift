/// The devices of this machine.
public enum Devices {
  /// The CPU, then every OpenCL device; of GPUs the matrix unit too, for which they are opened.
  ///
  /// An OpenCL loader that fails hides no CPU: the failure is noted.
  public static func all() throws(DeviceError) -> [DeviceTraits] {
    [try CPUDevice().traits] + openCLDevices().map(described)
  }

  private static func described(_ info: OpenCLDeviceInfo) -> DeviceTraits {
    var traits = info.traits()
    guard traits.family == .gpu, info.obstacle == nil else { return traits }
    do {
      traits.matrixUnit = try OpenCLDevice(info).matrixUnit(again: true)
    } catch {
      DeviceNotes.note("\(info.identifier) \(info.name): its matrix unit cannot be looked for: \(error)")
    }
    return traits
  }

  /// Opens the device that `--device` and `--kernels` name.
  ///
  /// - Parameters:
  ///   - text: "auto", "cpu", "opencl" or "opencl:INDEX".
  ///   - kernels: the family an OpenCL device runs.
  ///   - threadCount: threads of the CPU device; `nil` takes every core the process may use.
  /// - Throws: `DeviceChoiceError` if there is no such device, `DeviceError` if it cannot be opened.
  public static func choose(_ text: String = "auto", kernels: KernelChoice = .auto, threadCount: Int? = nil) throws -> any Device {
    // Asking for the CPU starts no driver.
    let infos = text == "cpu" ? [] : openCLDevices()
    if text == "auto" { noteObstacles(infos) }
    return try open(DeviceSelection.select(text, kernels: kernels, among: candidates(infos)), infos, threadCount)
  }

  /// What `--device` takes for every GPU.
  public static let allGPUs = "all-gpus"

  /// Opens the devices that `--device` and `--kernels` name, for work that several share.
  ///
  /// - Parameter text: as `choose` takes it, or several of these with commas between them, or "all-gpus".
  /// - Throws: `DeviceChoiceError` if one cannot be had, `DeviceError` if none can be opened; those that cannot be are noted.
  public static func chooseSeveral(_ text: String, kernels: KernelChoice = .auto, threadCount: Int? = nil) throws -> [any Device] {
    guard text == allGPUs || text.contains(",") else { return [try choose(text, kernels: kernels, threadCount: threadCount)] }
    let infos = openCLDevices()
    if text == allGPUs { noteObstacles(infos) }
    var devices: [any Device] = [], failures: [any Error] = []
    for selection in try DeviceSelection.selectSeveral(text, kernels: kernels, among: candidates(infos)) {
      do { devices.append(try open(selection, infos, threadCount)) } catch { failures.append(error) }
    }
    if devices.isEmpty, let failure = failures.last { throw failure }
    for failure in failures { DeviceNotes.note("a device is left out: \(failure)") }
    return devices
  }

  private static func candidates(_ infos: [OpenCLDeviceInfo]) -> [DeviceSelection.Candidate] {
    infos.map { DeviceSelection.Candidate(traits: $0.traits(), obstacle: $0.obstacle) }
  }

  private static func open(_ selection: DeviceSelection, _ infos: [OpenCLDeviceInfo], _ threadCount: Int?) throws -> any Device {
    switch selection {
    case .cpu: try CPUDevice(threadCount: threadCount)
    case .openCL(let index, let family): try OpenCLDevice(infos[index], family: family)
    }
  }

  private static func noteObstacles(_ infos: [OpenCLDeviceInfo]) {
    for info in infos where info.isGPU {
      if let obstacle = info.obstacle { DeviceNotes.note("\(info.identifier) \(info.name) is not chosen: \(obstacle)") }
    }
  }

  private static func openCLDevices() -> [OpenCLDeviceInfo] {
    do {
      return try OpenCLPlatform.devices()
    } catch {
      DeviceNotes.note("OpenCL devices cannot be listed: \(error)")
      return []
    }
  }
}
