import { Command } from '@commander-js/extra-typings'

import { addCommand, collectCommand, imagesCommand } from './site-images.ts'

export function siteCommand() {
  const site = new Command('site').description('Manage the images that a site serves')
  for (const command of [addCommand, imagesCommand, collectCommand]) {
    site.addCommand(command().exitOverride())
  }
  return site
}
