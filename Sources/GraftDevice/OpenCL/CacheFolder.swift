import Crypto
import Foundation

/// Where files lie that only save time: `$GRAFT_CACHE`, else `$XDG_CACHE_HOME/graft`, else `~/.cache/graft`.
package enum CacheFolder {
  package static func url(_ name: String, environment: [String: String]) -> URL {
    var folder = FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(".cache/graft", isDirectory: true)
    if let own = environment["GRAFT_CACHE"], !own.isEmpty {
      // Foundation takes ".." out of a path as text.
      folder = URL(fileURLWithPath: FilePath.absolute(own), isDirectory: true)
    } else if let shared = environment["XDG_CACHE_HOME"], shared.hasPrefix("/") {
      // The XDG specification has relative paths ignored.
      folder = URL(fileURLWithPath: shared, isDirectory: true).appendingPathComponent("graft", isDirectory: true)
    }
    return folder.appendingPathComponent(name, isDirectory: true)
  }
}

extension KernelSources {
  /// The SHA-256 of the texts under some folders, names and all: other sources may be faster with other tiles.
  package func digest(of folders: [String]) -> String {
    ProgramCache.key(paths.filter { path in folders.contains { path.hasPrefix("\($0)/") } }.flatMap { [$0, text($0) ?? ""] })
  }
}
