/**
 * nfs-ganesha: ganesha-config(8), ganesha-export-config(8). It needs no root tree at the path that
 * machines mount: the pseudo path stands for it, over NFSv3 and v4.
 */
import { exportNumber, type ServerPlan } from './plan.ts'

export function ganeshaConfiguration(plan: ServerPlan): string {
  const { image, rootTree, nfsRoot, network } = plan
  const id = exportNumber(plan, 65535)
  return `# nfs-ganesha for ${image}, by netimage.
NFS_CORE_PARAM {
  NFS_Protocols = 3, 4;
  # Version 3 clients, too, mount by the pseudo path.
  mount_path_pseudo = true;
  # Machines mount with nolock: there is no lock manager before a root is there.
  Enable_NLM = false;
  Enable_RQUOTA = false;
}

NFSv4 {
  # Owners are numbers, whatever names the server has for some of them.
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
  # A machine is root over its own root; nobody else is to write there.
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
