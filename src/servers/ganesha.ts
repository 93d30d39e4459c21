/**
 * nfs-ganesha: ganesha-config(8), ganesha-export-config(8). The root tree may lie at any path:
 * machines mount it by the pseudo path, over NFSv3 and v4.
 */
import { exportNumber, type ServerPlan } from './plan.ts'

export function ganeshaConfiguration(plan: ServerPlan): string {
  const { image, rootTree, nfsRoot, network } = plan
  const id = exportNumber(plan, 65535)
  return `# nfs-ganesha for ${image}, by netimage.
NFS_CORE_PARAM {
  NFS_Protocols = 3, 4;
  # Clients of version 3 also mount by the pseudo path.
  mount_path_pseudo = true;
  # Machines mount with nolock: no lock manager runs before the root is mounted.
  Enable_NLM = false;
  Enable_RQUOTA = false;
}

NFSv4 {
  # Send owners as numbers. The server's user names are not those of the machines.
  Only_Numeric_Owners = true;
}

EXPORT {
  Export_Id = ${id};
  Filesystem_Id = ${id}.${id};
  Path = ${quote(rootTree)};
  Pseudo = ${quote(nfsRoot.path)};
  Access_Type = None;
  SecType = sys;
  Protocols = 3, 4;
  Transports = TCP, UDP;
  # A machine needs root's rights in its root. Machines of other networks get no access.
  CLIENT {
    Clients = ${network.address}/${network.prefix};
    Access_Type = RW;
    Squash = No_Root_Squash;
  }
  FSAL { Name = VFS; }
}
`
}

function quote(path: string): string {
  return `"${path.replace(/["\\]/g, String.raw`\$&`)}"`
}
